use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use wasmplug_testkit::registry::{gzip, tar};

use super::*;

const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const LIMIT: u64 = 100_000;

fn find(files: &[(&str, &[u8])]) -> Result<Bytes, UnpackError> {
    module_in_tar(&Bytes::from(tar(files)), LIMIT)
}

#[test]
fn plugin_wasm_is_found_in_any_directory() {
    for path in ["plugin.wasm", "./plugin.wasm", "a/b/plugin.wasm"] {
        assert_eq!(find(&[("README", b"x"), (path, MODULE)]).unwrap(), MODULE, "{path}");
    }
    let found = find(&[("other.wasm", b"x"), ("plugin.wasm", MODULE), ("z.wasm", b"y")]);
    assert_eq!(found.unwrap(), MODULE);
}

#[test]
fn the_only_wasm_file_is_the_module() {
    assert_eq!(find(&[("README", b"x"), ("demo.wasm", MODULE)]).unwrap(), MODULE);
    assert_eq!(find(&[("Demo.WASM", MODULE), (".wh.old.wasm", b"")]).unwrap(), MODULE);
}

#[test]
fn archives_without_one_module_are_refused() {
    assert_eq!(find(&[]), Err(UnpackError::NoModule));
    assert_eq!(find(&[("plugin.wasm.txt", MODULE)]), Err(UnpackError::NoModule));
    assert_eq!(find(&[(".wh.plugin.wasm", b"")]), Err(UnpackError::NoModule));
    let names = vec!["a.wasm".to_owned(), "b.wasm".to_owned()];
    let several = find(&[("a.wasm", MODULE), ("b.wasm", MODULE)]);
    assert_eq!(several, Err(UnpackError::SeveralModules { names }));
}

#[test]
fn directories_and_links_are_not_modules() {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    archive.append_link(&mut header, "plugin.wasm", "/etc/passwd").unwrap();
    let archive = Bytes::from(archive.into_inner().unwrap());
    assert_eq!(module_in_tar(&archive, LIMIT), Err(UnpackError::NoModule));
}

#[test]
fn every_cut_of_an_archive_is_an_error_or_the_whole_module() {
    let module = [MODULE, &[7; 2000]].concat();
    let whole = tar(&[("a.txt", b"x"), ("plugin.wasm", &module)]);
    for length in 0..whole.len() {
        let cut = Bytes::copy_from_slice(&whole[..length]);
        if let Ok(found) = module_in_tar(&cut, LIMIT) {
            assert!(found == module, "cut at {length}: {} bytes", found.len());
        }
    }
}

#[test]
fn declared_sizes_are_not_believed() {
    let mut archive = tar(&[("plugin.wasm", MODULE)]);
    // The size field, in octal, and then the checksum over the header.
    archive[124..136].copy_from_slice(b"77777777777\0");
    archive[148..156].fill(b' ');
    let sum: u32 = archive[..512].iter().map(|byte| u32::from(*byte)).sum();
    archive[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let refused = module_in_tar(&Bytes::from(archive), LIMIT).unwrap_err();
    assert!(matches!(refused, UnpackError::Broken { format: "tar", .. }), "{refused:?}");
}

#[test]
fn compressed_bytes_come_back() {
    let bytes = Bytes::from_static(MODULE);
    let zipped = Bytes::from(gzip(MODULE));
    assert_eq!(inflate(&zipped, Compression::Gzip, LIMIT).unwrap(), bytes);
    let zstd = Bytes::from(compress_to_vec(MODULE, CompressionLevel::Fastest));
    assert_eq!(inflate(&zstd, Compression::Zstd, LIMIT).unwrap(), bytes);
    assert_eq!(inflate(&bytes, Compression::None, LIMIT).unwrap(), bytes);
}

#[test]
fn several_members_and_frames_are_one_stream() {
    let twice = Bytes::from([gzip(b"ab"), gzip(b"cd")].concat());
    assert_eq!(inflate(&twice, Compression::Gzip, LIMIT).unwrap(), b"abcd"[..]);
    let frame = |text: &[u8]| compress_to_vec(text, CompressionLevel::Fastest);
    let skippable = [&0x184d_2a50_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), b"xyz"].concat();
    let frames = Bytes::from([frame(b"ab"), skippable, frame(b"cd")].concat());
    assert_eq!(inflate(&frames, Compression::Zstd, LIMIT).unwrap(), b"abcd"[..]);
}

#[test]
fn what_inflates_beyond_the_bound_is_refused_and_not_cut() {
    let zeros = vec![0; usize::try_from(LIMIT).unwrap() + 1];
    for (compression, packed) in [
        (Compression::Gzip, gzip(&zeros)),
        (Compression::Zstd, compress_to_vec(zeros.as_slice(), CompressionLevel::Fastest)),
    ] {
        let packed = Bytes::from(packed);
        let refused = inflate(&packed, compression, LIMIT);
        assert_eq!(refused, Err(UnpackError::TooLarge { limit: LIMIT }), "{compression:?}");
        assert!(inflate(&packed, compression, LIMIT + 1).is_ok(), "{compression:?}");
    }
}

#[test]
fn broken_compression_is_an_error() {
    let mut zipped = gzip(&[MODULE; 9].concat());
    let last = zipped.len() - 5;
    zipped[last] ^= 1;
    let refused = inflate(&Bytes::from(zipped), Compression::Gzip, LIMIT).unwrap_err();
    assert!(matches!(refused, UnpackError::Broken { format: "gzip", .. }), "{refused:?}");
    for cut in [&b"\x28\xb5\x2f\xfd"[..], b"nonsense", b"\x50\x2a\x4d\x18\xff\xff\xff\xff"] {
        let refused = inflate(&Bytes::copy_from_slice(cut), Compression::Zstd, LIMIT).unwrap_err();
        assert!(matches!(refused, UnpackError::Broken { format: "zstd", .. }), "{refused:?}");
    }
}

#[test]
fn a_download_is_unpacked_whatever_it_is_packed_in() {
    let archive = tar(&[("plugin.wasm", MODULE)]);
    for packed in [MODULE.to_vec(), gzip(MODULE), archive.clone(), gzip(&archive)] {
        assert_eq!(unbox(Bytes::from(packed), LIMIT).unwrap(), MODULE);
    }
    assert_eq!(unbox(Bytes::from_static(b"text"), LIMIT).unwrap(), b"text"[..]);
}

#[test]
fn packing_without_end_is_refused() {
    let nested = (0..10).fold(MODULE.to_vec(), |inner, _| gzip(&inner));
    assert_eq!(unbox(Bytes::from(nested), LIMIT), Err(UnpackError::Nested));
}

#[test]
fn packing_is_taken_off_as_often_as_the_bound_says_and_no_more() {
    let packed = (0..MAX_NESTING).fold(MODULE.to_vec(), |inner, _| gzip(&inner));
    assert_eq!(unbox(Bytes::from(packed.clone()), LIMIT).unwrap(), MODULE);
    assert_eq!(unbox(Bytes::from(gzip(&packed)), LIMIT), Err(UnpackError::Nested));
}
