use super::{Event, Violation};

/// Reads the payload of a Close frame (RFC 6455 section 5.5.1): nothing, or a code and a reason.
pub(super) fn read(payload: &[u8]) -> Result<Event<'_>, Violation> {
    match payload {
        [] => Ok(Event::Close {
            code: None,
            reason: "",
        }),
        [_] => Err(Violation::CloseTruncated),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !may_be_sent(code) {
                return Err(Violation::CloseCode);
            }
            let reason = simdutf8::basic::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
            Ok(Event::Close {
                code: Some(code),
                reason,
            })
        }
    }
}

/// Whether an endpoint may put this code on the wire (RFC 6455 section 7.4 and the IANA registry of close codes).
///
/// 1004 is unassigned, 1005, 1006 and 1015 are for local use only; 5000 and above have no meaning anywhere.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
