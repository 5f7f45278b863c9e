//! Where the next page of a list begins that lies by time: opaque to callers.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use common::http::Problem;
use uuid::Uuid;

use crate::model::Micros;

/// As callers see it.
pub(super) fn encode(at: Micros, id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(format!("{} {id}", at.0))
}

/// What [`encode`] made.
///
/// # Errors
/// 422 for anything else.
pub(super) fn decode(text: &str) -> Result<(Micros, Uuid), Problem> {
    let refused = || {
        Problem::invalid(
            "invalid_cursor",
            "after",
            "is not `next` of an earlier answer; leave it out to begin at the newest",
        )
    };
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| refused())?;
    let text = String::from_utf8(bytes).map_err(|_| refused())?;
    let (at, id) = text.split_once(' ').ok_or_else(refused)?;
    let at = at.parse().map(Micros).map_err(|_| refused())?;
    Ok((at, id.parse().map_err(|_| refused())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let place = (Micros(1_771_000_000_123_456), Uuid::now_v7());
        assert_eq!(decode(&encode(place.0, place.1)).unwrap(), place);
        for bad in ["", "!", "MTIz", &URL_SAFE_NO_PAD.encode("x y")] {
            assert_eq!(decode(bad).unwrap_err().code, "invalid_cursor", "{bad}");
        }
    }
}
