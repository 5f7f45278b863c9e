//! Contacts: where a user can be reached, and who the user is.

use common::ids::Name;
use serde::{Deserialize, Serialize};

use super::Channel;

/// What is known of a user. All fields are optional; an absent `roles` or `stores` list leaves the fan-out of a group to
/// what the user's tokens showed, an empty one says none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Contact {
    /// Email address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Phone number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// `WeCom` user id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wecom: Option<String>,
    /// Feishu `open_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feishu: Option<String>,
    /// Telegram chat id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telegram: Option<String>,
    /// Slack user or channel id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slack: Option<String>,
    /// Discord user or channel id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discord: Option<String>,
    /// Webhook URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,
    /// BCP 47 language, for example `zh-CN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// IANA time zone, for example `Asia/Shanghai`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Roles for the fan-out of external channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub roles: Option<Vec<Name>>,
    /// Stores for the fan-out of external channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub stores: Option<Vec<Name>>,
}

impl Contact {
    /// The address of a channel, if there is one.
    #[must_use]
    pub fn address(&self, channel: Channel) -> Option<&str> {
        match channel {
            Channel::Email => self.email.as_deref(),
            Channel::Sms => self.phone.as_deref(),
            Channel::Wecom => self.wecom.as_deref(),
            Channel::Feishu => self.feishu.as_deref(),
            Channel::Telegram => self.telegram.as_deref(),
            Channel::Slack => self.slack.as_deref(),
            Channel::Discord => self.discord.as_deref(),
            Channel::Webhook => self.webhook_url.as_deref(),
            Channel::InApp | Channel::Realtime | Channel::WecomRobot | Channel::Push => None,
        }
    }
}
