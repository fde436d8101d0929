use super::*;

fn decode(framing: Framing, wire: &[u8]) -> Result<(bool, BodyDecoder, Vec<u8>), WireError> {
    let mut decoder = BodyDecoder::new(framing);
    let mut input = wire.to_vec();
    let complete = decoder.decode(&mut input)?;
    Ok((complete, decoder, input))
}

#[test]
fn chunked_body_is_the_same_however_it_is_cut() {
    let wire = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: 1\r\n\r\nNEXT";
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    let mut input = Vec::new();
    for (position, byte) in wire.iter().enumerate() {
        input.push(*byte);
        let complete = decoder.decode(&mut input).unwrap();
        assert_eq!(complete, position >= wire.len() - 5, "at byte {position}");
    }
    assert_eq!(decoder.body, b"abcde");
    assert_eq!(decoder.trailers, [("X-T".to_owned(), "1".to_owned())]);
    assert_eq!(input, b"NEXT");
}

#[test]
fn bad_chunks_are_refused() {
    for wire in
        [&b"x\r\n"[..], b"\r\n", b"+3\r\nabc", b"3\nabc", b"1\r\nabc\r\n", b"fffffffffffffffff\r\n"]
    {
        assert!(decode(Framing::Chunked, wire).is_err(), "{wire:?}");
    }
    assert!(matches!(decode(Framing::Chunked, b"ffffffff\r\n"), Err(WireError::BodyTooLarge)));
    let endless = vec![b'1'; MAX_CHUNK_LINE_BYTES + 1];
    assert!(decode(Framing::Chunked, &endless).is_err());
}

#[test]
fn length_takes_exactly_its_bytes() {
    let (complete, decoder, rest) = decode(Framing::Length(3), b"abcdef").unwrap();
    assert!(complete);
    assert_eq!((decoder.body.as_slice(), rest.as_slice()), (&b"abc"[..], &b"def"[..]));
}

#[test]
fn an_end_inside_a_body_is_an_error_unless_the_end_is_the_framing() {
    let (complete, decoder, _) = decode(Framing::Length(3), b"ab").unwrap();
    assert!(!complete);
    assert!(matches!(decoder.finish(), Err(WireError::Ended)));
    let (complete, decoder, _) = decode(Framing::UntilClose, b"ab").unwrap();
    assert!(!complete);
    decoder.finish().unwrap();
}

#[test]
fn framing_follows_the_headers() {
    let framing = |headers: &[(&str, &str)]| {
        let headers: Vec<_> =
            headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        announced_framing(&headers)
    };
    assert_eq!(framing(&[]).unwrap(), None);
    assert_eq!(framing(&[("Content-Length", "4")]).unwrap(), Some(Framing::Length(4)));
    assert_eq!(
        framing(&[("content-length", "4"), ("Transfer-Encoding", "gzip, Chunked")]).unwrap(),
        Some(Framing::Chunked)
    );
    for bad in [
        vec![("content-length", "-1")],
        vec![("content-length", "4"), ("content-length", "5")],
        vec![("content-length", "99999999999")],
        vec![("transfer-encoding", "gzip")],
    ] {
        assert!(framing(&bad).is_err(), "{bad:?}");
    }
}

#[test]
fn heads_keep_order_case_and_repetition() {
    let head = parse_request(b"GET /a?b HTTP/1.1\r\nB: 1\r\na: 2\r\nB:  \xff \r\n\r\n").unwrap();
    let head = head.unwrap();
    assert_eq!(head.start.path, "/a?b");
    let fields: Vec<_> = head.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(fields, [("B", "1"), ("a", "2"), ("B", "\u{ff}")]);
}

#[test]
fn heads_without_an_end_are_bounded() {
    let mut wire = b"GET / HTTP/1.1\r\nA: ".to_vec();
    assert!(parse_request(&wire).unwrap().is_none());
    wire.resize(MAX_HEAD_BYTES + 1, b'a');
    assert!(matches!(parse_request(&wire), Err(WireError::HeadTooLarge)));
    assert!(parse_request(b"GET /\r\n\r\n").is_err());
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
    assert!(matches!(parse_request(many.as_bytes()), Err(WireError::HeadTooLarge)));
}

#[test]
fn messages_are_read_up_to_their_bounds_and_no_further() {
    let mut head = b"GET / HTTP/1.1\r\nA: ".to_vec();
    head.resize(MAX_HEAD_BYTES, b'a');
    assert!(parse_request(&head).unwrap().is_none());
    head.push(b'a');
    assert!(matches!(parse_request(&head), Err(WireError::HeadTooLarge)));
    let of_headers = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
    let full = parse_request(of_headers(MAX_HEADERS).as_bytes()).unwrap().unwrap();
    assert_eq!(full.headers.len(), MAX_HEADERS);
    let more = parse_request(of_headers(MAX_HEADERS + 1).as_bytes());
    assert!(matches!(more, Err(WireError::HeadTooLarge)));
    for (length, is_beyond) in [(MAX_BODY_BYTES, false), (MAX_BODY_BYTES + 1, true)] {
        let announced = announced_framing(&[("content-length".to_owned(), length.to_string())]);
        assert_eq!(matches!(announced, Err(WireError::BodyTooLarge)), is_beyond);
        let chunk = decode(Framing::Chunked, format!("{length:x}\r\n").as_bytes());
        assert_eq!(matches!(chunk, Err(WireError::BodyTooLarge)), is_beyond);
    }
}
