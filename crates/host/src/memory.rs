//! The only reader and writer of guest memory.
//!
//! Every access checks that the whole range lies inside the memory as it is now; the memory may
//! have grown or moved since the last call into the guest, so no slice outlives one access.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::abi::Status;

/// The bytes at `ptr..ptr + len`.
///
/// # Errors
/// [`Status::InvalidMemoryAccess`] unless the whole range lies inside the memory.
pub(crate) fn read(memory: &[u8], ptr: u32, len: u32) -> Result<&[u8], Status> {
    let start = usize::try_from(ptr).map_err(|_| Status::InvalidMemoryAccess)?;
    let len = usize::try_from(len).map_err(|_| Status::InvalidMemoryAccess)?;
    let end = start.checked_add(len).ok_or(Status::InvalidMemoryAccess)?;
    memory.get(start..end).ok_or(Status::InvalidMemoryAccess)
}

/// The writable bytes at `ptr..ptr + len`.
///
/// # Errors
/// [`Status::InvalidMemoryAccess`] unless the whole range lies inside the memory.
pub(crate) fn slice_mut(memory: &mut [u8], ptr: u32, len: usize) -> Result<&mut [u8], Status> {
    let start = usize::try_from(ptr).map_err(|_| Status::InvalidMemoryAccess)?;
    let end = start.checked_add(len).ok_or(Status::InvalidMemoryAccess)?;
    memory.get_mut(start..end).ok_or(Status::InvalidMemoryAccess)
}

/// Writes `bytes` at `ptr`.
///
/// # Errors
/// [`Status::InvalidMemoryAccess`] unless the whole range lies inside the memory.
pub(crate) fn write(memory: &mut [u8], ptr: u32, bytes: &[u8]) -> Result<(), Status> {
    slice_mut(memory, ptr, bytes.len())?.copy_from_slice(bytes);
    Ok(())
}

/// Reads a little-endian `u32` at `ptr`.
///
/// # Errors
/// [`Status::InvalidMemoryAccess`] unless all four bytes lie inside the memory.
pub(crate) fn read_u32(memory: &[u8], ptr: u32) -> Result<u32, Status> {
    let bytes = read(memory, ptr, 4)?;
    Ok(u32::from_le_bytes(bytes.try_into().map_err(|_| Status::InvalidMemoryAccess)?))
}

/// Writes a little-endian `u32` at `ptr`.
///
/// # Errors
/// [`Status::InvalidMemoryAccess`] unless all four bytes lie inside the memory.
pub(crate) fn write_u32(memory: &mut [u8], ptr: u32, value: u32) -> Result<(), Status> {
    write(memory, ptr, &value.to_le_bytes())
}

/// Writes a little-endian `u64` at `ptr`.
///
/// # Errors
/// [`Status::InvalidMemoryAccess`] unless all eight bytes lie inside the memory.
pub(crate) fn write_u64(memory: &mut [u8], ptr: u32, value: u64) -> Result<(), Status> {
    write(memory, ptr, &value.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::{read, read_u32, write, write_u32, write_u64};
    use crate::abi::Status;

    #[test]
    fn ranges_inside_are_read_and_written() {
        let mut memory = [0; 8];
        write_u32(&mut memory, 4, 0x0403_0201).unwrap();
        assert_eq!(read(&memory, 4, 4).unwrap(), [1, 2, 3, 4]);
        assert_eq!(read_u32(&memory, 4).unwrap(), 0x0403_0201);
        assert_eq!(read(&memory, 8, 0).unwrap(), []);
        write_u64(&mut memory, 0, u64::MAX).unwrap();
        assert_eq!(memory, [0xff; 8]);
    }

    #[test]
    fn ranges_that_leave_the_memory_or_overflow_are_refused() {
        let mut memory = [0; 8];
        for (ptr, len) in [(0, 9), (8, 1), (9, 0), (u32::MAX, 1), (u32::MAX, u32::MAX), (5, 4)] {
            assert_eq!(read(&memory, ptr, len), Err(Status::InvalidMemoryAccess), "{ptr}+{len}");
        }
        assert_eq!(write(&mut memory, 6, b"abc"), Err(Status::InvalidMemoryAccess));
        assert_eq!(write_u32(&mut memory, 5, 1), Err(Status::InvalidMemoryAccess));
        assert_eq!(read_u32(&memory, u32::MAX), Err(Status::InvalidMemoryAccess));
        assert_eq!(memory, [0; 8]);
    }
}
