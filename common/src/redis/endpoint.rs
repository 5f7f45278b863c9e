//! Where a Redis server is, as a URL says it.

use std::{fmt, str::FromStr};

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de};

/// `redis://host:port` or, with TLS, `rediss://host:port`; a user and a password may stand before the host.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// 6379 where the URL names none.
    pub port: u16,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The ACL user.
    pub username: Option<String>,
    /// Its password, or that of the default user.
    pub password: Option<SecretString>,
}

/// A text that is no URL of a Redis server. It says what is wrong, and never the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a Redis URL such as redis://host:6379 or rediss://user:password@host:6379: {0}")]
pub struct InvalidEndpoint(&'static str);

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let url = url::Url::parse(text).map_err(|_| InvalidEndpoint("it cannot be read"))?;
        let tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return Err(InvalidEndpoint("it begins with neither redis:// nor rediss://")),
        };
        let host = url
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or(InvalidEndpoint("it names no host"))?;
        if !matches!(url.path(), "" | "/" | "/0") {
            return Err(InvalidEndpoint("only database 0 can be used"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidEndpoint("nothing may stand behind the address"));
        }
        let decoded =
            |part: &str| percent_decoded(part).ok_or(InvalidEndpoint("its user or password is no text"));
        let username = Some(url.username())
            .filter(|name| !name.is_empty())
            .map(decoded)
            .transpose()?;
        let password = url.password().map(decoded).transpose()?.map(SecretString::from);
        if username.is_some() && password.is_none() {
            return Err(InvalidEndpoint("a user goes with a password"));
        }
        Ok(Self {
            // An IPv6 address stands in brackets in a URL only.
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(6379),
            tls,
            username,
            password,
        })
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first == b'%' {
            let digits = rest
                .get(..2)
                .and_then(|digits| std::str::from_utf8(digits).ok())?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(first);
        }
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn urls_are_read() {
        let plain: Endpoint = "redis://localhost".parse().unwrap();
        assert_eq!((plain.to_string().as_str(), plain.tls), ("localhost:6379", false));
        let whole: Endpoint = "rediss://app:p%40ss@[::1]:7000/0".parse().unwrap();
        assert_eq!((whole.host.as_str(), whole.port, whole.tls), ("::1", 7000, true));
        assert_eq!(whole.username.as_deref(), Some("app"));
        assert_eq!(whole.password.as_ref().unwrap().expose_secret(), "p@ss");
        assert!(!format!("{whole:?} {whole}").contains("p@ss"));
        let only: Endpoint = "redis://:secret@h:1".parse().unwrap();
        assert!(only.username.is_none() && only.password.is_some());
    }

    #[test]
    fn what_is_no_url_is_refused_without_being_repeated() {
        for bad in [
            "localhost:6379",
            "http://h:1",
            "redis://",
            "redis://h:1/3",
            "redis://h:1?db=2",
            "redis://user@h:1",
            "redis://:%ff@h:1",
        ] {
            let error = bad.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.starts_with("not a Redis URL"), "{bad}: {error}");
        }
    }
}
