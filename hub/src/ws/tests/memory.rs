use super::malformed::masked;
use super::{Parser, Seen, feed};

#[test]
fn an_idle_parser_is_small_and_owns_no_buffer() {
    assert!(size_of::<Parser>() <= 64, "{}", size_of::<Parser>());
    let mut parser = Parser::new(1 << 20);
    assert_eq!(parser.held_bytes(), 0);
    let stream = [
        masked(0x01, &[b'a'; 5000]),
        masked(0x89, &[0; 100]),
        masked(0x80, b"end"),
    ]
    .concat();
    let (events, result) = feed(&mut parser, stream.chunks(11));
    assert_eq!((events.len(), result), (2, Ok(())));
    assert_eq!(parser.held_bytes(), 0);
    assert!(feed(&mut parser, masked(0x89, &[0; 100]).chunks(11)).1.is_ok());
    assert_eq!(parser.held_bytes(), 0, "after a ping in pieces");
}

#[test]
fn a_claimed_length_reserves_nothing() {
    let mut parser = Parser::new(1 << 30);
    let claim = [
        &[0x82, 0xFF][..],
        &(1_u64 << 29).to_be_bytes(),
        &[0; 4],
        b"0123456789",
    ]
    .concat();
    assert!(feed(&mut parser, [claim.as_slice()]).1.is_ok());
    assert!(parser.held_bytes() <= 64, "{}", parser.held_bytes());
}

#[test]
fn a_close_or_a_violation_frees_the_open_message() {
    for end in [masked(0x88, b""), vec![0xFF]] {
        let mut parser = Parser::new(10_000);
        assert!(
            feed(&mut parser, [masked(0x01, &[b'a'; 9000]).as_slice()])
                .1
                .is_ok()
        );
        assert!(parser.held_bytes() >= 9000);
        let (_, _) = feed(&mut parser, [end.as_slice()]);
        assert_eq!(parser.held_bytes(), 0);
    }
}

#[test]
fn empty_fragments_cost_no_memory() {
    let mut parser = Parser::new(1000);
    let start = masked(0x01, b"");
    let more = masked(0x00, b"").repeat(100_000);
    assert_eq!(feed(&mut parser, [start.as_slice(), &more]), (vec![], Ok(())));
    assert_eq!(parser.held_bytes(), 0);
    assert_eq!(
        feed(&mut parser, [masked(0x80, b"x").as_slice()]).0,
        [Seen::Text("x".into())]
    );
}

/// Linear cost without a clock: each growth of the buffer may copy it, so growths must be few.
#[test]
fn one_byte_fragments_with_pings_between_grow_the_buffer_a_few_times_only() {
    const LIMIT: usize = 100_000;
    let mut parser = Parser::new(LIMIT);
    let mut growths = 0;
    let mut held = 0;
    let ping = masked(0x89, b"ping");
    for i in 0..LIMIT {
        let frame = masked(if i == 0 { 0x02 } else { 0x00 }, b"x");
        assert!(
            feed(&mut parser, [frame.as_slice(), &ping[..8], &ping[8..]])
                .1
                .is_ok()
        );
        growths += usize::from(parser.held_bytes() != held);
        held = parser.held_bytes();
        assert!(held <= LIMIT + 125);
    }
    assert!(growths <= 20, "{growths}");
}

#[test]
fn one_large_frame_in_small_reads_grows_the_buffer_a_few_times_only() {
    const LIMIT: usize = 100_000;
    let mut parser = Parser::new(LIMIT);
    let frame = masked(0x82, &[7; 60_000]);
    let mut growths = 0;
    let mut held = 0;
    for byte in frame.chunks(1) {
        assert!(feed(&mut parser, [byte]).1.is_ok());
        growths += usize::from(parser.held_bytes() != held);
        held = parser.held_bytes();
        assert!(held <= 60_000, "never more than the frame itself");
    }
    assert!(growths <= 20, "{growths}");
}
