//! Networks and host names as settings name them.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Deserializer, de};

/// A text that names no network and no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is neither a network such as 10.0.0.0/8, an address, nor a host such as hooks.example.com or *.example.com"
)]
pub struct InvalidHost(String);

/// A network in CIDR notation (RFC 4632), or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    bits: u128,
    mask: u128,
    v4: bool,
}

fn bits(address: IpAddr) -> (u128, bool) {
    match address.to_canonical() {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), true),
        IpAddr::V6(v6) => (v6.to_bits(), false),
    }
}

impl Network {
    /// Whether the address lies in it. An IPv4 address that is written as IPv6 (`::ffff:10.0.0.1`) is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (bits, v4) = bits(address);
        v4 == self.v4 && bits & self.mask == self.bits
    }
}

impl FromStr for Network {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let refuse = || InvalidHost(text.to_owned());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u32>().map_err(|_| refuse())?)),
            None => (text, None),
        };
        let (bits, v4) = bits(address.parse().map_err(|_| refuse())?);
        let width = if v4 { 32 } else { 128 };
        let free = width - length.unwrap_or(width).min(width);
        if length.is_some_and(|length| length > width) {
            return Err(refuse());
        }
        let whole = u128::MAX >> (128 - width);
        let mask = whole & u128::MAX.checked_shl(free).unwrap_or(0);
        Ok(Self {
            bits: bits & mask,
            mask,
            v4,
        })
    }
}

/// A host's name, or `*.` and a domain for all names below it. Compared without case and without a trailing dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    name: String,
    below: bool,
}

impl HostPattern {
    /// Whether it names the host.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        if self.below {
            let head = host.len().checked_sub(self.name.len());
            head.is_some_and(|at| {
                at > 1
                    && host.is_char_boundary(at)
                    && host[at..].eq_ignore_ascii_case(&self.name)
                    && host[..at].ends_with('.')
            })
        } else {
            host.eq_ignore_ascii_case(&self.name)
        }
    }
}

impl FromStr for HostPattern {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let (name, below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '[' | ']');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(fits) {
            return Err(InvalidHost(text.to_owned()));
        }
        Ok(Self {
            name: name.to_ascii_lowercase(),
            below,
        })
    }
}

/// A network or hosts by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostOrNetwork {
    /// By address.
    Network(Network),
    /// By name.
    Host(HostPattern),
}

impl FromStr for HostOrNetwork {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        text.parse()
            .map(Self::Network)
            .or_else(|_| text.parse().map(Self::Host))
    }
}

struct Text<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = InvalidHost>> de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a network or a host")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for HostOrNetwork {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_what_their_bits_say() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::a00:1"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("0.0.0.0/0", "8.8.8.8", "::1"),
            ("fd00::/8", "fd12::1", "fe80::1"),
            ("::/0", "2001:db8::1", "1.2.3.4"),
            ("192.168.7.9/24", "192.168.7.1", "192.168.8.1"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn names_match_without_case_and_dot_and_below_means_below() {
        let exact: HostPattern = "Hooks.Example.com".parse().unwrap();
        assert!(exact.matches("hooks.example.com") && exact.matches("HOOKS.example.com."));
        assert!(!exact.matches("a.hooks.example.com"));
        let below: HostPattern = "*.example.com".parse().unwrap();
        assert!(below.matches("a.example.com") && below.matches("a.b.example.com."));
        for other in [
            "example.com",
            "badexample.com",
            ".example.com",
            "a.example.org",
            "é.com",
        ] {
            assert!(!below.matches(other), "{other}");
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in [
            "",
            "*",
            "*.",
            "10.0.0.0/33",
            "10.0.0.0/x",
            "a b",
            "http://a",
            "::/129",
            "*.*.a",
        ] {
            assert!(text.parse::<HostOrNetwork>().is_err(), "{text}");
        }
        assert!(matches!("10.0.0.1".parse(), Ok(HostOrNetwork::Network(_))));
        assert!(matches!("hooks.internal".parse(), Ok(HostOrNetwork::Host(_))));
    }
}
