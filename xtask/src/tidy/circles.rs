//! Circles of files: sets of files each of which reaches each other along the arrows.

use super::arrows::Arrow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Files that reach each other, and one way round: the shortest from the first of them.
#[derive(Debug)]
pub(super) struct Circle {
    pub files: Vec<usize>,
    pub way: Vec<Arrow>,
}

/// All circles, the greatest first.
pub(super) fn circles(files: usize, arrows: &BTreeSet<Arrow>) -> Vec<Circle> {
    let mut next: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for arrow in arrows {
        next.entry(arrow.from).or_default().insert(arrow.to);
    }
    let reached: Vec<BTreeSet<usize>> = (0..files).map(|from| reach(from, &next)).collect();
    let mut seen: BTreeSet<usize> = BTreeSet::new();
    let mut all = Vec::new();
    for file in 0..files {
        if !reached[file].contains(&file) || seen.contains(&file) {
            continue;
        }
        let round: Vec<usize> =
            reached[file].iter().copied().filter(|f| reached[*f].contains(&file)).collect();
        seen.extend(&round);
        let way = shortest_round(file, arrows);
        all.push(Circle { files: round, way });
    }
    all.sort_by_key(|c| std::cmp::Reverse(c.files.len()));
    all
}

fn reach(from: usize, next: &BTreeMap<usize, BTreeSet<usize>>) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        for to in next.get(&file).into_iter().flatten() {
            if reached.insert(*to) {
                open.push(*to);
            }
        }
    }
    reached
}

fn shortest_round(start: usize, arrows: &BTreeSet<Arrow>) -> Vec<Arrow> {
    let mut by: BTreeMap<usize, &Arrow> = BTreeMap::new();
    let mut open = VecDeque::from([start]);
    while let Some(file) = open.pop_front() {
        for arrow in arrows.iter().filter(|a| a.from == file) {
            if by.contains_key(&arrow.to) {
                continue;
            }
            by.insert(arrow.to, arrow);
            if arrow.to == start {
                return way_back(start, &by);
            }
            open.push_back(arrow.to);
        }
    }
    Vec::new()
}

fn way_back(start: usize, by: &BTreeMap<usize, &Arrow>) -> Vec<Arrow> {
    let mut way = Vec::new();
    let mut at = start;
    while let Some(arrow) = by.get(&at) {
        way.push((*arrow).clone());
        at = arrow.from;
        if at == start {
            break;
        }
    }
    way.reverse();
    way
}
