//! Addresses as people write them.

use wire::connectd::Address;

/// Of a host, in bytes: a name of the DNS is no longer.
pub const MAX_HOST: usize = 255;

/// `host`, `host:port`, `[v6]:port`, `v6`.
pub fn parse_address(text: &str, default_port: u16) -> Option<Address> {
    let address = |host: &str, port: &str| {
        let port = if port.is_empty() { default_port } else { port.parse().ok()? };
        (!host.is_empty() && host.len() <= MAX_HOST)
            .then(|| Address { host: host.to_owned(), port })
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return address(host, rest.strip_prefix(':').unwrap_or(rest));
    }
    match text.matches(':').count() {
        0 => address(text, ""),
        1 => text.split_once(':').and_then(|(host, port)| address(host, port)),
        _ => address(text, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_every_usual_form() {
        for (text, host, port) in [
            ("10.0.0.1", "10.0.0.1", 9),
            ("10.0.0.1:80", "10.0.0.1", 80),
            ("[::1]:80", "::1", 80),
            ("::1", "::1", 9),
            ("[::1]", "::1", 9),
            ("example.com:1", "example.com", 1),
        ] {
            assert_eq!(
                parse_address(text, 9),
                Some(Address { host: host.to_owned(), port }),
                "{text}"
            );
        }
        for bad in ["", ":80", "a:b", "a:99999", "[::1"] {
            assert_eq!(parse_address(bad, 9), None, "{bad}");
        }
    }
}
