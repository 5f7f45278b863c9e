//! Channels and lanes.

use serde::{Deserialize, Serialize};

/// How a recipient is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// A row in the inbox.
    InApp,
    /// A frame on the open sockets.
    Realtime,
    /// Email by SMTP.
    Email,
    /// Text message.
    Sms,
    /// `WeCom` application message.
    Wecom,
    /// `WeCom` group robot.
    WecomRobot,
    /// Feishu (Lark).
    Feishu,
    /// Telegram bot.
    Telegram,
    /// Slack.
    Slack,
    /// Discord.
    Discord,
    /// HTTP call to a receiver's URL.
    Webhook,
    /// Mobile push.
    Push,
}

/// A channel name that no version knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no channel `{0}`")]
pub struct UnknownChannel(pub String);

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 12] = [
        Self::InApp,
        Self::Realtime,
        Self::Email,
        Self::Sms,
        Self::Wecom,
        Self::WecomRobot,
        Self::Feishu,
        Self::Telegram,
        Self::Slack,
        Self::Discord,
        Self::Webhook,
        Self::Push,
    ];

    /// The canonical name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InApp => "in_app",
            Self::Realtime => "realtime",
            Self::Email => "email",
            Self::Sms => "sms",
            Self::Wecom => "wecom",
            Self::WecomRobot => "wecom_robot",
            Self::Feishu => "feishu",
            Self::Telegram => "telegram",
            Self::Slack => "slack",
            Self::Discord => "discord",
            Self::Webhook => "webhook",
            Self::Push => "push",
        }
    }

    /// Whether it leaves this system: neither inbox nor socket.
    #[must_use]
    pub fn is_external(self) -> bool {
        !matches!(self, Self::InApp | Self::Realtime)
    }
}

impl std::str::FromStr for Channel {
    type Err = UnknownChannel;

    /// Takes the canonical names and those of the seed systems.
    fn from_str(name: &str) -> Result<Self, UnknownChannel> {
        Ok(match name {
            "in_app" | "in-app" | "system" => Self::InApp,
            "realtime" | "websocket" => Self::Realtime,
            "email" => Self::Email,
            "sms" => Self::Sms,
            "wecom" | "wechat" | "wechat_api" => Self::Wecom,
            "wecom_robot" | "wechat_bot" => Self::WecomRobot,
            "feishu" => Self::Feishu,
            "telegram" => Self::Telegram,
            "slack" => Self::Slack,
            "discord" => Self::Discord,
            "webhook" => Self::Webhook,
            "push" | "app_push" => Self::Push,
            other => return Err(UnknownChannel(other.to_owned())),
        })
    }
}

/// The queue's lanes; the number is what the store keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(i16)]
pub enum Lane {
    /// Within a second.
    Critical = 0,
    /// Within a minute.
    High = 1,
    /// Within five minutes.
    Medium = 2,
    /// Within half an hour.
    Low = 3,
}

impl Lane {
    /// Every lane, the most important first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Medium, Self::Low];

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The lane of a priority as callers write it: words of S0, S1, S3, or S4's 1 to 5 (as a number's text).
    #[must_use]
    pub fn of_priority(priority: &str) -> Option<Self> {
        Some(match priority {
            "critical" | "urgent" | "1" => Self::Critical,
            "high" | "2" => Self::High,
            "medium" | "normal" | "3" => Self::Medium,
            "low" | "4" | "5" => Self::Low,
            _ => return None,
        })
    }

    /// The number that the store keeps.
    #[must_use]
    pub fn number(self) -> i16 {
        self as i16
    }

    /// The canonical name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

impl From<Lane> for common::message::Priority {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Critical => Self::Critical,
            Lane::High => Self::High,
            Lane::Medium => Self::Medium,
            Lane::Low => Self::Low,
        }
    }
}
