//! One SMTP transmission, step by step, so that a failure says where it happened: before the end of DATA nothing was
//! sent, after it nobody can tell. Where the server can (RFC 2920), the steps before the message go out together: two
//! round trips a mail instead of four.

use std::{fmt, time::Duration};

use lettre::{
    Address,
    transport::smtp::{
        Error,
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, TlsParameters},
        commands::{Data, Ehlo, Mail, Rcpt},
        extension::{ClientId, Extension, MailParameter},
        response::Response,
    },
};
use tokio::{net::TcpStream, time::timeout};

use crate::{config::SmtpTls, model::Outcome};

/// Where the server is and how to speak with it.
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: SmtpTls,
    pub(crate) tls_parameters: Option<TlsParameters>,
    pub(crate) credentials: Option<Credentials>,
    /// Bound of each step.
    pub(crate) timeout: Duration,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// A step of the transmission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Connect,
    Login,
    Mail,
    Rcpt,
    Data,
    /// The message itself and the dot that ends it.
    Body,
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server answered 4xx or 5xx.
    Reply(u16, String),
    /// No answer: cut, timed out, or not understood.
    Broken(String),
    /// The server cannot do what this mail needs.
    Unsupported(&'static str),
}

/// A failed transmission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    pub(crate) fault: Fault,
}

impl Failure {
    fn new(step: Step, fault: Fault) -> Self {
        Self { step, fault }
    }

    /// The class of the failure (RFC 5321 section 4.2.1, refined by RFC 3463 codes).
    pub(crate) fn outcome(&self) -> Outcome {
        match (&self.fault, self.step) {
            (Fault::Unsupported(_), _) => Outcome::Rejected,
            (Fault::Broken(_), Step::Body) => Outcome::Unknown,
            // Nothing of this mail was sent; what is wrong is the server or our settings, and an operator can mend both.
            (Fault::Broken(_), _) | (Fault::Reply(..), Step::Connect | Step::Login) => Outcome::Retry,
            (Fault::Reply(code, _), _) if *code < 500 || is_setting(*code) => Outcome::Retry,
            (Fault::Reply(code, text), Step::Rcpt) if is_recipient(*code, text) => Outcome::RecipientInvalid,
            (Fault::Reply(..), _) => Outcome::Rejected,
        }
    }

    /// Whether an operator has to do something.
    pub(crate) fn is_setting(&self) -> bool {
        match &self.fault {
            Fault::Reply(code, _) => is_setting(*code) || (self.step <= Step::Login && *code >= 500),
            Fault::Broken(_) | Fault::Unsupported(_) => false,
        }
    }

    /// Whether the connection can serve the next mail after a reset.
    pub(crate) fn leaves_connection(&self) -> bool {
        match &self.fault {
            Fault::Reply(code, _) => self.step > Step::Login && *code != 421,
            Fault::Unsupported(_) => true,
            Fault::Broken(_) => false,
        }
    }

    /// No further answer is to be expected.
    fn ends_connection(&self) -> bool {
        !self.leaves_connection()
    }

    /// What the server said, or what happened.
    pub(crate) fn text(&self) -> String {
        match &self.fault {
            Fault::Reply(code, text) => format!("{code} {text}"),
            Fault::Broken(text) => text.clone(),
            Fault::Unsupported(text) => (*text).to_owned(),
        }
    }
}

impl PartialOrd for Step {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (*self as u8).partial_cmp(&(*other as u8))
    }
}

/// Credentials (RFC 4954 section 6) and protocol (RFC 5321 section 4.2.2): ours or the server's settings are wrong.
fn is_setting(code: u16) -> bool {
    matches!(code, 500..=504 | 530 | 534 | 535 | 538)
}

/// Whether a 5xx at RCPT means the address and not a policy. The enhanced code decides where there is one.
fn is_recipient(code: u16, text: &str) -> bool {
    match enhanced(text) {
        Some((1, _) | (4, 4) | (7, 13)) => true,
        Some((0, 0)) | None => matches!(code, 550 | 551 | 553),
        Some(_) => false,
    }
}

/// Subject and detail of an RFC 3463 code at the beginning of a reply's text.
fn enhanced(text: &str) -> Option<(u16, u16)> {
    let mut parts = text.split_whitespace().next()?.split('.');
    let class = parts.next()?;
    let subject = parts.next()?.parse().ok()?;
    let detail = parts.next()?.parse().ok()?;
    (class == "5" && parts.next().is_none()).then_some((subject, detail))
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let text = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        match error.status() {
            Some(code) => Self::Reply(code.into(), text),
            None => Self::Broken(error.to_string()),
        }
    }
}

/// An open and, where configured, protected and authenticated connection.
pub(crate) struct Connection {
    inner: AsyncSmtpConnection,
    timeout: Duration,
    /// The server takes several commands at once (RFC 2920).
    pipelining: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// Runs one step within its bound.
async fn within<T>(
    bound: Duration,
    step: Step,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    match timeout(bound, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure::new(step, error.into())),
        Err(_) => Err(Failure::new(step, Fault::Broken("no answer in time".to_owned()))),
    }
}

impl Connection {
    /// Opens a connection.
    pub(crate) async fn open(server: &Server) -> Result<Self, Failure> {
        let hello = ClientId::default();
        let broken = |text: String| Failure::new(Step::Connect, Fault::Broken(text));
        let mut inner = if let (SmtpTls::Tls, Some(tls)) = (server.tls, &server.tls_parameters) {
            let address = (server.host.as_str(), server.port);
            let open = AsyncSmtpConnection::connect_tokio1(
                address,
                Some(server.timeout),
                &hello,
                Some(tls.clone()),
                None,
            );
            within(server.timeout, Step::Connect, open).await?
        } else {
            let connect = TcpStream::connect((server.host.as_str(), server.port));
            let stream = match timeout(server.timeout, connect).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return Err(broken(error.to_string())),
                Err(_) => return Err(broken("no connection in time".to_owned())),
            };
            stream
                .set_nodelay(true)
                .map_err(|error| broken(error.to_string()))?;
            let greet = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello);
            within(server.timeout, Step::Connect, greet).await?
        };
        if let (SmtpTls::Starttls, Some(tls)) = (server.tls, &server.tls_parameters) {
            within(server.timeout, Step::Connect, inner.starttls(tls.clone(), &hello)).await?;
        }
        if let Some(credentials) = &server.credentials {
            let login = inner.auth(&[Mechanism::Plain, Mechanism::Login], credentials);
            within(server.timeout, Step::Login, login).await?;
        }
        // Asked once more, as the library keeps to itself what else the server can. After a login or STARTTLS it may be
        // other things than before.
        let can = within(server.timeout, Step::Connect, inner.command(Ehlo::new(hello))).await?;
        Ok(Self {
            inner,
            timeout: server.timeout,
            pipelining: takes_several(&can),
        })
    }

    /// Sends one mail to one recipient; answers what the server said. `mail` has CRLF line ends.
    pub(crate) async fn send(&mut self, from: &Address, to: &Address, mail: &str) -> Result<String, Failure> {
        let bound = self.timeout;
        let mut parameters = Vec::new();
        let plain = |address: &Address| address.user().is_ascii() && address.domain().is_ascii();
        if !plain(to) || !plain(from) {
            if !self.inner.server_info().supports_feature(Extension::SmtpUtfEight) {
                return Err(Failure::new(
                    Step::Mail,
                    Fault::Unsupported("the server does not support SMTPUTF8"),
                ));
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        let from = Mail::new(Some(from.clone()), parameters);
        let to = Rcpt::new(to.clone(), Vec::new());
        if self.pipelining {
            self.announce(format!("{from}{to}{Data}")).await?;
        } else {
            within(bound, Step::Mail, self.inner.command(from)).await?;
            within(bound, Step::Rcpt, self.inner.command(to)).await?;
            within(bound, Step::Data, self.inner.command(Data)).await?;
        }
        // One write for the message and its end: two would wait for each other under Nagle's algorithm.
        let answer = within(bound, Step::Body, self.inner.command(stuffed(mail))).await?;
        Ok(answer.message().collect::<Vec<_>>().join(" "))
    }

    /// Sends the commands before the message at once and takes an answer to each.
    async fn announce(&mut self, commands: String) -> Result<(), Failure> {
        let bound = self.timeout;
        let mail = within(bound, Step::Mail, self.inner.command(commands)).await;
        if mail.as_ref().is_err_and(Failure::ends_connection) {
            return mail.map(drop);
        }
        let to = within(bound, Step::Rcpt, self.inner.read_response()).await;
        if to.as_ref().is_err_and(Failure::ends_connection) {
            return to.map(drop);
        }
        let data = within(bound, Step::Data, self.inner.read_response()).await;
        let refused = mail.and(to);
        if refused.is_err() && data.is_ok() {
            // It waits for a message all the same (RFC 2920 section 3.1), which for nobody is an empty one.
            match within(bound, Step::Data, self.inner.command(".\r\n")).await {
                Err(failure) if failure.ends_connection() => return Err(failure),
                _ => {}
            }
        }
        match data {
            Err(failure) if failure.ends_connection() => Err(failure),
            data => refused.and(data).map(drop),
        }
    }

    /// Forgets a mail that failed. False: the connection is of no further use.
    pub(crate) async fn reset(&mut self) -> bool {
        within(self.timeout, Step::Connect, self.inner.command("RSET\r\n"))
            .await
            .is_ok()
    }

    /// Says goodbye.
    pub(crate) async fn quit(mut self) {
        if let Err(failure) = within(Duration::from_secs(1), Step::Connect, self.inner.quit()).await {
            tracing::debug!(error = %failure.text(), "the mail server did not answer the goodbye");
        }
    }
}

/// Whether the answer to EHLO says so.
fn takes_several(answer: &Response) -> bool {
    answer
        .message()
        .any(|line| line.trim().eq_ignore_ascii_case("PIPELINING"))
}

/// RFC 5321, section 4.5.2: a line's first dot is doubled, and a lone dot ends the message.
fn stuffed(mail: &str) -> String {
    let mut out = mail.replace("\r\n.", "\r\n..");
    if mail.starts_with('.') {
        out.insert(0, '.');
    }
    if !out.ends_with("\r\n") {
        out.push_str("\r\n");
    }
    out.push_str(".\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(step: Step, code: u16, text: &str) -> Outcome {
        Failure::new(step, Fault::Reply(code, text.to_owned())).outcome()
    }

    #[test]
    fn replies_have_their_classes() {
        use Outcome::{RecipientInvalid, Rejected, Retry};
        for (step, code, text, expected) in [
            (Step::Connect, 554, "no service", Retry),
            (Step::Login, 535, "5.7.8 bad credentials", Retry),
            (Step::Mail, 530, "5.7.0 authentication required", Retry),
            (Step::Mail, 550, "5.7.1 sender refused", Rejected),
            (Step::Mail, 421, "4.3.2 closing", Retry),
            (Step::Rcpt, 450, "4.2.0 greylisted", Retry),
            (Step::Rcpt, 550, "5.1.1 unknown user", RecipientInvalid),
            (Step::Rcpt, 550, "no such user here", RecipientInvalid),
            (Step::Rcpt, 551, "user not local", RecipientInvalid),
            (Step::Rcpt, 553, "mailbox name not allowed", RecipientInvalid),
            (Step::Rcpt, 554, "5.1.2 bad domain", RecipientInvalid),
            (Step::Rcpt, 550, "5.7.1 relaying denied", Rejected),
            (Step::Rcpt, 550, "5.7.13 account disabled", RecipientInvalid),
            (Step::Rcpt, 552, "5.2.2 mailbox full", Rejected),
            (Step::Rcpt, 503, "5.5.1 bad sequence", Retry),
            (Step::Data, 554, "5.5.1 no valid recipients", Rejected),
            (Step::Body, 451, "4.3.0 try later", Retry),
            (Step::Body, 554, "5.7.1 spam", Rejected),
            (Step::Body, 550, "5.1.1 no", Rejected),
        ] {
            assert_eq!(outcome(step, code, text), expected, "{step:?} {code} {text}");
        }
    }

    #[test]
    fn only_a_cut_after_the_message_is_unknown() {
        for step in [Step::Connect, Step::Login, Step::Mail, Step::Rcpt, Step::Data] {
            assert_eq!(
                Failure::new(step, Fault::Broken(String::new())).outcome(),
                Outcome::Retry
            );
        }
        assert_eq!(
            Failure::new(Step::Body, Fault::Broken(String::new())).outcome(),
            Outcome::Unknown
        );
    }

    #[test]
    fn dots_are_doubled_and_the_end_is_alone() {
        assert_eq!(stuffed("a\r\n.\r\n..b\r\nc"), "a\r\n..\r\n...b\r\nc\r\n.\r\n");
        assert_eq!(stuffed("a\r\n"), "a\r\n.\r\n");
        assert_eq!(stuffed(".\r\n"), "..\r\n.\r\n");
    }
}
