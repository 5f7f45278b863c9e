//! Addresses that a body brings, and which of them fits which channel.

use std::collections::BTreeMap;

use common::http::Problem;
use serde_json::{Map, Value};

use crate::model::Channel;

/// Longest address, in bytes: that of a URL.
const MAX_ADDRESS: usize = 2048;

/// The fields of `metadata` that are addresses.
pub(super) const IN_METADATA: [&str; 4] = ["email", "phone", "webhook_url", "device_token"];

/// An address, and the field that it stood in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) field: String,
    pub(crate) address: String,
}

/// The addresses of a body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// `recipient`, `recipients`, `target`: for every channel that they fit.
    pub(crate) given: Vec<Given>,
    /// Those of `metadata`, each for its channel.
    pub(crate) named: BTreeMap<Channel, String>,
    /// Those given are from before a change, which may have left some without a channel.
    pub(crate) kept: bool,
}

impl Addresses {
    /// Whether the body brings none.
    pub(crate) fn is_empty(&self) -> bool {
        self.given.is_empty() && self.named.is_empty()
    }

    /// Takes an address of the body.
    pub(crate) fn give(&mut self, field: impl Into<String>, address: &str) -> Result<(), Problem> {
        let trimmed = address.trim();
        if trimmed.is_empty() || trimmed.len() > MAX_ADDRESS || trimmed.chars().any(char::is_control) {
            return Err(Problem::invalid(
                "invalid_address",
                field,
                "an address has 1 to 2048 bytes and no control characters",
            ));
        }
        if !self.given.iter().any(|given| given.address == trimmed) {
            self.given.push(Given {
                field: field.into(),
                address: trimmed.to_owned(),
            });
        }
        Ok(())
    }

    /// Takes the addresses out of `metadata`; what stays is data for clients.
    pub(crate) fn take_from(&mut self, metadata: &mut Map<String, Value>) -> Result<(), Problem> {
        for (field, channel) in [
            ("email", Some(Channel::Email)),
            ("phone", Some(Channel::Sms)),
            ("webhook_url", Some(Channel::Webhook)),
            ("device_token", Some(Channel::Push)),
            ("platform", None),
        ] {
            let address = match metadata.remove(field) {
                None | Some(Value::Null) => continue,
                Some(Value::String(address)) => address,
                Some(_) => {
                    return Err(Problem::invalid(
                        "invalid_value",
                        format!("metadata.{field}"),
                        "has to be a string",
                    ));
                }
            };
            let mut checked = Self::default();
            checked.give(format!("metadata.{field}"), &address)?;
            if let (Some(channel), Some(given)) = (channel, checked.given.pop()) {
                self.named.insert(channel, given.address);
            }
        }
        Ok(())
    }

    /// The addresses for a channel, each once.
    pub(crate) fn of(&self, channel: Channel) -> Vec<String> {
        let named = self.named.get(&channel).filter(|address| fits(channel, address));
        let mut addresses: Vec<String> = self
            .given
            .iter()
            .filter(|given| fits(channel, &given.address))
            .map(|given| given.address.clone())
            .collect();
        if let Some(named) = named
            && !addresses.contains(named)
        {
            addresses.push(named.clone());
        }
        addresses
    }
}

/// Refuses URLs that no webhook would go to, of a notification with these channels: what looks like one, what nothing but
/// a webhook could take, and what is said to be one. `judge` says why a URL would not be called.
pub(crate) fn check_webhooks(
    addresses: &Addresses,
    channels: &[(String, Channel)],
    judge: impl Fn(&str) -> Result<(), &'static str>,
) -> Result<(), Problem> {
    if !channels.iter().any(|(_, channel)| *channel == Channel::Webhook) {
        return Ok(());
    }
    let of_others = |address: &str| {
        !fits(Channel::Webhook, address) && channels.iter().any(|(_, channel)| fits(*channel, address))
    };
    let given = addresses
        .given
        .iter()
        .map(|given| (given.field.as_str(), given.address.as_str()))
        .filter(|(_, address)| !of_others(address));
    let named = addresses.named.get(&Channel::Webhook);
    let named = named.map(|address| ("metadata.webhook_url", address.as_str()));
    for (field, url) in given.chain(named) {
        judge(url).map_err(|why| no_webhook(field, why))?;
    }
    Ok(())
}

/// Refuses a list in which an address fits none of the channels: beside others that do, nothing would tell of it.
pub(crate) fn check_list(addresses: &Addresses, channels: &[(String, Channel)]) -> Result<(), Problem> {
    if addresses.kept {
        return Ok(());
    }
    let stray = addresses.given.iter().find(|given| {
        given.field.starts_with("recipients[")
            && !channels.iter().any(|(_, channel)| fits(*channel, &given.address))
    });
    stray.map_or(Ok(()), |given| {
        let names: Vec<&str> = channels.iter().map(|(name, _)| name.as_str()).collect();
        Err(Problem::invalid(
            "invalid_address",
            given.field.clone(),
            format!("is no address of any of the channels: {}", names.join(", ")),
        ))
    })
}

/// 422: a URL that no webhook would go to.
pub(crate) fn no_webhook(field: impl Into<String>, why: &str) -> Problem {
    Problem::invalid("invalid_address", field, format!("no webhook goes there: {why}"))
}

/// Whether an address can be one of the channel.
pub(crate) fn fits(channel: Channel, address: &str) -> bool {
    let url = is_url(address);
    match channel {
        Channel::InApp | Channel::Realtime => false,
        Channel::Email => crate::channels::parse_address(address).is_ok(),
        Channel::Sms => is_phone(address),
        Channel::Webhook | Channel::WecomRobot => url,
        Channel::Wecom
        | Channel::Feishu
        | Channel::Telegram
        | Channel::Slack
        | Channel::Discord
        | Channel::Push => !url && crate::channels::parse_address(address).is_err(),
    }
}

/// A scheme is written either way (RFC 3986 section 3.1).
fn is_url(address: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| {
        let begin = address.get(..scheme.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
    })
}

/// Digits with an optional `+` and the usual separators, 3 (short codes) to 15 (E.164) of them.
fn is_phone(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let rest = text.strip_prefix('+').unwrap_or(text);
    (3..=15).contains(&digits)
        && rest
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, ' ' | '-' | '(' | ')' | '.'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn channels_take_what_fits() {
        for (address, channels) in [
            ("user@example.com", vec![Channel::Email]),
            (
                "13800138000",
                vec![
                    Channel::Sms,
                    Channel::Wecom,
                    Channel::Feishu,
                    Channel::Telegram,
                    Channel::Slack,
                    Channel::Discord,
                    Channel::Push,
                ],
            ),
            (
                "https://example.com/hook",
                vec![Channel::WecomRobot, Channel::Webhook],
            ),
        ] {
            let fitting: Vec<Channel> = Channel::ALL
                .into_iter()
                .filter(|channel| fits(*channel, address))
                .collect();
            assert_eq!(fitting, channels, "{address}");
        }
        assert!(
            fits(Channel::Webhook, "HTTP://example.com/hook")
                && fits(Channel::Webhook, "Https://example.com")
                && !fits(Channel::Webhook, "httpx://example.com")
                && fits(Channel::Wecom, "zhangsan")
                && fits(Channel::Feishu, "ou_xxx")
                && fits(Channel::Sms, "+86 138-0013-8000")
        );
    }

    #[test]
    fn metadata_keeps_only_data() {
        let mut metadata = json!({"email":"a@example.com","phone":"13800138000","platform":"ios","x":1});
        let mut addresses = Addresses::default();
        let Value::Object(map) = &mut metadata else {
            panic!("an object")
        };
        addresses.take_from(map).unwrap();
        assert_eq!(metadata, json!({"x":1}));
        assert_eq!(addresses.of(Channel::Email), ["a@example.com"]);
        assert_eq!(addresses.of(Channel::Sms), ["13800138000"]);
        assert!(addresses.of(Channel::Webhook).is_empty());
    }
}
