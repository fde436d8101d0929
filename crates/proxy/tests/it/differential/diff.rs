//! Lines that only one of two texts has.

/// Lines in which the texts differ, in order: those of the first with `-`, those of the second
/// with `+` in front.
pub(super) fn lines(first: &[String], second: &[String]) -> Vec<String> {
    // Length of the longest common part of what follows two places.
    let mut common = vec![vec![0_usize; second.len() + 1]; first.len() + 1];
    for left in (0..first.len()).rev() {
        for right in (0..second.len()).rev() {
            common[left][right] = if first[left] == second[right] {
                common[left + 1][right + 1] + 1
            } else {
                common[left + 1][right].max(common[left][right + 1])
            };
        }
    }
    let (mut left, mut right, mut found) = (0, 0, Vec::new());
    while left < first.len() || right < second.len() {
        if left < first.len() && right < second.len() && first[left] == second[right] {
            (left, right) = (left + 1, right + 1);
        } else if right == second.len()
            || left < first.len() && common[left + 1][right] >= common[left][right + 1]
        {
            found.push(format!("-{}", first[left]));
            left += 1;
        } else {
            found.push(format!("+{}", second[right]));
            right += 1;
        }
    }
    found
}

#[test]
fn lines_of_either_side_are_found() {
    let text = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
    assert_eq!(lines(&text("abcd"), &text("xbdc")), ["-a", "+x", "-c", "+c"]);
    assert_eq!(lines(&text("abc"), &text("abc")), Vec::<String>::new());
    assert_eq!(lines(&text(""), &text("a")), ["+a"]);
}
