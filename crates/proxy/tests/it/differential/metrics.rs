//! Metrics of plugins in the text form of Prometheus, of which there are two.

/// The samples whose names begin with `prefix`, sorted, each as it would stand in the other form,
/// without the sum of a histogram, which Envoy only estimates.
pub(super) fn lines(text: &str, prefix: &str) -> Vec<String> {
    let of_plugin = text.lines().filter(|line| line.starts_with(prefix));
    let mut lines: Vec<String> = of_plugin.filter_map(sample).collect();
    lines.sort();
    lines
}

fn sample(line: &str) -> Option<String> {
    let (name, value) = line.rsplit_once(' ')?;
    let (name, labels) = name.split_once('{').unwrap_or((name, ""));
    if name.ends_with("_sum") {
        return None;
    }
    let labels = labels.trim_end_matches('}');
    // One form writes whole bounds as whole numbers, the other with a fraction.
    let labels = labels.replace(".0\"", "\"");
    // There is one listener here, and it has no name.
    let labels = labels.replace("envoy_http_conn_manager_prefix=\"traffic\"", "");
    let labels = labels.trim_end_matches(',');
    Some(format!("{name}{{{labels}}} {value}"))
}

#[test]
fn both_forms_give_the_same_lines() {
    let one = "# TYPE a counter\na{} 3\nother{} 1\na_b_bucket{le=\"1\"} 2\na_b_sum{} 4.05\n";
    let two = "# TYPE a unknown\na_b_bucket{le=\"1.0\"} 2\na_b_sum 4.0\na 3\nother 1\n# EOF\n";
    assert_eq!(lines(one, "a"), ["a_b_bucket{le=\"1\"} 2", "a{} 3"]);
    assert_eq!(lines(one, "a"), lines(two, "a"));
}
