//! Which URLs may be called: judged as they are written, and again by the addresses that their names stand for.
//!
//! The addresses are judged at the moment of the connection, and the connection goes to one of those that were judged:
//! a name that stands for something else a moment later (DNS rebinding) gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Position, Url};

use crate::config::{HostOrNetwork, HostPattern, WebhookConfig};

/// Longest URL, in bytes.
const MAX_URL: usize = 2048;

/// Why a URL is not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is none, or none that can be called.
    Invalid(&'static str),
    /// The settings do not let it.
    Forbidden(&'static str),
}

/// What has one connection in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) https: bool,
    /// Lower case, without a trailing dot; an IPv6 address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

/// A URL that may be called, if its addresses may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) origin: Origin,
    /// The host's address, where it is written as one.
    pub(super) literal: Option<IpAddr>,
    /// Path and query.
    pub(super) path: String,
    /// The value of the header `Host`.
    pub(super) authority: String,
    /// The settings name the host: its addresses need not be public.
    exempt: bool,
}

/// The rules of the settings.
#[derive(Debug)]
pub(super) struct Guard {
    hosts: Vec<HostPattern>,
    exempt: Vec<HostOrNetwork>,
    ports: Vec<u16>,
    allow_http: bool,
}

impl Guard {
    pub(super) fn new(config: &WebhookConfig) -> Self {
        Self {
            hosts: config.hosts.clone(),
            exempt: config.allow_private.clone(),
            ports: config.ports.clone(),
            allow_http: config.allow_http,
        }
    }

    /// Judges a URL as it is written. Only the parsed form is used from here on.
    pub(super) fn judge(&self, text: &str) -> Result<Destination, Refusal> {
        use Refusal::{Forbidden, Invalid};
        if text.len() > MAX_URL {
            return Err(Invalid("the URL is too long"));
        }
        let url = Url::parse(text).map_err(|_| Invalid("not a URL"))?;
        let https = match url.scheme() {
            "https" => true,
            "http" if self.allow_http => false,
            "http" => return Err(Forbidden("http is not allowed (webhook.allow_http)")),
            _ => return Err(Invalid("not an http URL")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Invalid("a URL with a user or a password is not called"));
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(Invalid("the URL names no host"));
        };
        if !self.ports.is_empty() && !self.ports.contains(&port) {
            return Err(Forbidden("the port is not allowed (webhook.ports)"));
        }
        // The parser has turned 127.1, 0x7f000001, 0177.0.0.1 and 2130706433 into the address that they mean.
        let (name, literal) = match host {
            Host::Domain(name) => (name.strip_suffix('.').unwrap_or(name).to_owned(), None),
            Host::Ipv4(address) => (address.to_string(), Some(IpAddr::V4(address))),
            Host::Ipv6(address) => (address.to_string(), Some(IpAddr::V6(address))),
        };
        if name.is_empty() {
            return Err(Invalid("the URL names no host"));
        }
        if !self.hosts.is_empty() && !self.hosts.iter().any(|pattern| pattern.matches(&name)) {
            return Err(Forbidden("the host is not among webhook.hosts"));
        }
        let exempt = self.exempt.iter().any(|exempt| match exempt {
            HostOrNetwork::Host(pattern) => pattern.matches(&name),
            HostOrNetwork::Network(_) => false,
        });
        let bracketed = match literal {
            Some(IpAddr::V6(address)) => format!("[{address}]"),
            _ => name.clone(),
        };
        let authority = match url.port() {
            Some(port) => format!("{bracketed}:{port}"),
            None => bracketed,
        };
        let destination = Destination {
            origin: Origin {
                https,
                host: name,
                port,
            },
            literal,
            path: url[Position::BeforePath..Position::AfterQuery].to_owned(),
            authority,
            exempt,
        };
        match literal {
            Some(address) if !self.permits(&destination, address) => {
                Err(Forbidden("the address is not public (webhook.allow_private)"))
            }
            _ => Ok(destination),
        }
    }

    /// Whether this address of the destination may be connected to.
    pub(super) fn permits(&self, destination: &Destination, address: IpAddr) -> bool {
        destination.exempt
            || is_public(address)
            || self.exempt.iter().any(|exempt| match exempt {
                HostOrNetwork::Network(network) => network.contains(address),
                HostOrNetwork::Host(_) => false,
            })
    }
}

/// Whether an address belongs to the public internet (the IANA special-purpose registries, RFC 6890 and what followed).
/// Metadata services of clouds are link-local, shared or unique local, so they are not.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        // This network, and what is reserved, with the broadcast address.
        || a == 0
        || a >= 240
        // Shared by providers and their customers (RFC 6598).
        || (a == 100 && (64..128).contains(&b))
        // Protocol assignments, 6to4 relays, benchmarks.
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19)))
}

/// Only global unicast (2000::/3) less what embeds IPv4 addresses or is no host's. All others, among them `::`, loopback,
/// unique local, link-local, multicast, NAT64 (64:ff9b::/96, 64:ff9b:1::/48) and IPv4-compatible ones, lie outside.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    first & 0xe000 == 0x2000
        // Protocol assignments with Teredo and ORCHID (2001::/23), documentation (2001:db8::/32, 3fff::/20), 6to4.
        && !(first == 0x2001 && (second < 0x0200 || second == 0x0db8))
        && first != 0x2002
        && !(first == 0x3fff && second < 0x1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(json: &str) -> Guard {
        Guard::new(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn only_public_addresses_are_public() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "93.184.216.34",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00:1450::1",
            "2001:200::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn every_way_to_write_a_private_address_is_seen_through() {
        let guard = guard(r#"{"allow_http":true,"ports":[]}"#);
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://017700000001/",
            "http://127.0.0.1./",
            "http://0/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[0:0:0:0:0:ffff:169.254.169.254]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[fd00:ec2::254]/latest",
            "http://169.254.169.254/latest/meta-data/",
            "http://0xa9fea9fe/",
            "http://①②⑦.⓪.⓪.①/",
            "http://%31%32%37.0.0.1/",
            "http:\\\\127.0.0.1\\",
            "http:///127.0.0.1/",
            "http://127.0.0.1:80#@example.com/",
            " http://127.0.0.1 ",
            "ht\ntp://127.0.0.1/",
        ] {
            assert!(
                matches!(guard.judge(url), Err(Refusal::Forbidden(_))),
                "{url:?}: {:?}",
                guard.judge(url)
            );
        }
    }

    #[test]
    fn urls_that_cannot_be_meant_are_refused() {
        let guard = guard("{}");
        for url in [
            "",
            "x",
            "//example.com",
            "ftp://example.com/",
            "file:///etc/passwd",
            "gopher://example.com/",
            "https://",
            "https://user@example.com/",
            "https://user:secret@example.com/",
            "https://example.com@127.0.0.1/",
            "https://:x@example.com/",
            "https://exa mple.com/",
            "https://./",
            "https://256.256.256.256/",
            "https://1.2.3.4.5/",
            "https://[::1/",
            "https://example.com:99999/",
        ] {
            assert!(
                matches!(guard.judge(url), Err(Refusal::Invalid(_))),
                "{url:?}: {:?}",
                guard.judge(url)
            );
        }
        let long = format!("https://example.com/{}", "a".repeat(MAX_URL));
        assert!(guard.judge(&long).is_err());
    }

    #[test]
    fn scheme_port_and_host_follow_the_settings() {
        let plain = guard("{}");
        assert!(plain.judge("https://example.com/x?y=1#z").is_ok());
        assert!(plain.judge("https://example.com:80/").is_ok());
        for url in [
            "http://example.com/",
            "https://example.com:8443/",
            "https://example.com:22/",
        ] {
            assert!(matches!(plain.judge(url), Err(Refusal::Forbidden(_))), "{url}");
        }
        let listed = guard(r#"{"hosts":["*.example.com"],"ports":[8443]}"#);
        assert!(listed.judge("https://a.example.com.:8443/").is_ok());
        for url in [
            "https://example.com:8443/",
            "https://a.example.org:8443/",
            "https://a.example.com/",
        ] {
            assert!(listed.judge(url).is_err(), "{url}");
        }
    }

    #[test]
    fn only_the_parsed_form_goes_on() {
        let judged = guard(r#"{"ports":[]}"#)
            .judge("https://Hooks.EXAMPLE.com.:8443/a b?c=d#e")
            .unwrap();
        assert_eq!(
            (
                judged.origin.host.as_str(),
                judged.origin.port,
                judged.path.as_str(),
                judged.authority.as_str()
            ),
            ("hooks.example.com", 8443, "/a%20b?c=d", "hooks.example.com:8443")
        );
        let judged = guard("{}").judge("https://[2606:4700::1111]").unwrap();
        assert_eq!(
            (judged.authority.as_str(), judged.path.as_str()),
            ("[2606:4700::1111]", "/")
        );
    }

    #[test]
    fn exemptions_are_by_name_or_by_address() {
        let guard = guard(r#"{"allow_private":["hooks.internal","10.0.0.0/8"]}"#);
        let named = guard.judge("https://hooks.internal/").unwrap();
        let other = guard.judge("https://example.com/").unwrap();
        let (private, loopback) = ("10.1.2.3".parse().unwrap(), "127.0.0.1".parse().unwrap());
        assert!(guard.permits(&named, loopback) && guard.permits(&named, private));
        assert!(guard.permits(&other, private) && !guard.permits(&other, loopback));
        assert!(guard.judge("https://10.1.2.3/").is_ok() && guard.judge("https://127.0.0.1/").is_err());
    }
}
