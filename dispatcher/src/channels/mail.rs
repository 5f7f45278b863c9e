//! A notification as a mail: RFC 5322 headers, text, and HTML where there is some.

use std::time::{Duration, UNIX_EPOCH};

use common::ids::{DeliveryId, NotificationId};
use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart, SinglePart,
        header::{HeaderName, HeaderValue},
    },
};

use crate::model::{Content, Micros};

/// Characters of a subject that is taken from the text, where there is no title.
const SUBJECT_FROM_TEXT: usize = 78;

/// What a mail is made of.
#[derive(Debug)]
pub(crate) struct Mail<'a> {
    pub(crate) delivery: DeliveryId,
    pub(crate) notification: NotificationId,
    pub(crate) from: &'a Mailbox,
    pub(crate) to: Address,
    pub(crate) date: Micros,
    pub(crate) content: &'a Content,
}

/// The mail's text as it goes over the wire, without the transmission's own escapes. The Message-ID is the same in every
/// attempt, so that a receiver can tell a repeat.
pub(crate) fn render(mail: &Mail<'_>) -> Result<String, String> {
    let content = mail.content;
    let date = UNIX_EPOCH + Duration::from_secs(u64::try_from(mail.date.seconds()).unwrap_or_default());
    let header = |name, value: String| HeaderValue::new(HeaderName::new_from_ascii_str(name), value);
    let builder = Message::builder()
        .from(mail.from.clone())
        .to(Mailbox::new(None, mail.to.clone()))
        .subject(subject(content))
        .date(date)
        .message_id(Some(format!("<{}@{}>", mail.delivery, mail.from.email.domain())))
        .raw_header(header("X-Carillon-Notification", mail.notification.to_string()))
        // RFC 3834: no automatic answers to this.
        .raw_header(header("Auto-Submitted", "auto-generated".to_owned()));
    let message = match &content.html {
        Some(html) => builder.multipart(
            MultiPart::alternative()
                .singlepart(SinglePart::plain(content.content.clone()))
                .singlepart(SinglePart::html(html.clone())),
        ),
        None => builder.singlepart(SinglePart::plain(content.content.clone())),
    };
    let bytes = message.map_err(|error| error.to_string())?.formatted();
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

/// One line without control characters, so that nothing in a title can become a header.
fn subject(content: &Content) -> String {
    let line = |text: &str| -> String {
        let one_line: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        one_line.trim().to_owned()
    };
    let title = line(&content.title);
    if title.is_empty() {
        line(content.content.lines().next().unwrap_or_default())
            .chars()
            .take(SUBJECT_FROM_TEXT)
            .collect()
    } else {
        title
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rendered(title: &str, text: &str, html: Option<&str>) -> String {
        let from: Mailbox = "Carillon <noreply@carillon.example>".parse().unwrap();
        let content = Content {
            title: title.to_owned(),
            content: text.to_owned(),
            html: html.map(str::to_owned),
            ..Content::default()
        };
        render(&Mail {
            delivery: DeliveryId(uuid::Uuid::nil()),
            notification: NotificationId(uuid::Uuid::nil()),
            from: &from,
            to: "u@example.com".parse().unwrap(),
            date: Micros(1_750_000_000_000_000),
            content: &content,
        })
        .unwrap()
    }

    fn headers(mail: &str) -> Vec<&str> {
        let head = mail.split("\r\n\r\n").next().unwrap();
        head.split("\r\n")
            .filter(|line| !line.starts_with([' ', '\t']))
            .collect()
    }

    #[test]
    fn a_mail_has_its_own_message_id_and_date() {
        let mail = rendered("Hello", "text", None);
        let headers = headers(&mail);
        assert!(
            headers.contains(&"Message-ID: <00000000-0000-0000-0000-000000000000@carillon.example>"),
            "{mail}"
        );
        assert!(
            headers.contains(&"Date: Sun, 15 Jun 2025 15:06:40 +0000"),
            "{mail}"
        );
        assert!(
            headers.contains(&"From: Carillon <noreply@carillon.example>"),
            "{mail}"
        );
        assert!(headers.contains(&"To: u@example.com"), "{mail}");
        assert!(
            headers.contains(&"X-Carillon-Notification: 00000000-0000-0000-0000-000000000000"),
            "{mail}"
        );
    }

    #[test]
    fn html_comes_beside_the_text() {
        let mail = rendered("Hello", "the text", Some("<b>the html</b>"));
        assert!(mail.contains("multipart/alternative"), "{mail}");
        assert!(
            mail.contains("the text") && mail.contains("<b>the html</b>"),
            "{mail}"
        );
        assert!(!rendered("Hello", "the text", None).contains("multipart"));
    }

    #[test]
    fn without_a_title_the_text_begins_the_subject() {
        assert!(rendered(" ", "first line\nsecond", None).contains("Subject: first line\r\n"));
    }

    proptest! {
        #[test]
        fn no_title_or_text_makes_a_header(
            title in "[\\PC\r\n\u{0}\u{85}\u{2028}]{0,40}\r\nBcc: victim@example.com",
            text in "(.|\r|\n){0,200}",
        ) {
            let mail = rendered(&title, &text, None);
            let head = mail.split("\r\n\r\n").next().unwrap();
            prop_assert!(!head.contains('\0'));
            for line in head.split("\r\n") {
                prop_assert!(!line.contains(['\r', '\n']), "{:?}", line);
                prop_assert!(!line.starts_with("Bcc"), "{:?}", line);
            }
            prop_assert_eq!(headers(&mail).len(), 10, "{}", head);
        }
    }
}
