//! Fee estimates, as the backend gives them.

use primitives::FeeratePerKw;
use serde_json::Value;

/// The backend's estimates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Estimates {
    /// The least that is relayed.
    pub floor: FeeratePerKw,
    /// For confirmation within so many blocks, ascending.
    pub by_blocks: Vec<(u32, FeeratePerKw)>,
}

impl Estimates {
    /// Reads CLN's `estimatefees`: all in satoshi per 1000 virtual bytes.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let floor = value
            .get("feerate_floor")
            .and_then(Value::as_u64)
            .ok_or("'feerate_floor' is missing")?;
        let floor = FeeratePerKw::from_per_kvb(floor).max(FeeratePerKw::FLOOR);
        let mut by_blocks = Vec::new();
        for entry in
            value.get("feerates").and_then(Value::as_array).ok_or("'feerates' is missing")?
        {
            let number = |name: &str| {
                entry.get(name).and_then(Value::as_u64).ok_or(format!("'{name}' is missing"))
            };
            let blocks = u32::try_from(number("blocks")?).map_err(|e| e.to_string())?;
            by_blocks.push((blocks, FeeratePerKw::from_per_kvb(number("feerate")?).max(floor)));
        }
        by_blocks.sort_unstable();
        Ok(Self { floor, by_blocks })
    }

    /// What confirms within so many blocks: between two estimates the more careful one.
    pub fn within(&self, blocks: u32) -> Option<FeeratePerKw> {
        let (first, last) = (self.by_blocks.first()?, self.by_blocks.last()?);
        let found = self.by_blocks.iter().rev().find(|(b, _)| *b <= blocks);
        Some(found.map_or(first.1, |(_, rate)| *rate)).or(Some(last.1))
    }
}
