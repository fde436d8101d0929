//! Reasons for differences that more than one case has.

pub(super) const HEAD_WITHOUT_LENGTH: &str =
    "an answer to HEAD without a length does not announce chunks, which nobody would see";
pub(super) const REASON_PHRASE: &str =
    "the reason phrase is the registered one, or none is known; nothing may depend on it";
