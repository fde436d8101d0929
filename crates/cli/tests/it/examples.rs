//! The examples do what their READMEs say, command by command.
//!
//! With `BLESS=1` what the commands show is written into the READMEs; read the difference.

mod readme;
mod session;

use std::path::{Path, PathBuf};
use std::process::Command;

use self::readme::{steps, with_outputs};
use self::session::{Session, Shown};

/// One test for each folder, and the list of all of them.
macro_rules! examples {
    ($($test:ident => $folder:literal),+ $(,)?) => {
        const FOLDERS: &[&str] = &[$($folder),+];
        $(
            #[test]
            fn $test() {
                check(&examples(), $folder);
            }
        )+
    };
}

examples! {
    plugins_apply_by_scope => "scopes",
    the_higher_priority_comes_first => "priorities",
    each_phase_sees_its_part => "phases",
    a_configuration_reaches_its_plugin_live => "plugin-config",
    a_name_chooses_the_plugin_in_a_module => "plugin-name",
    a_moved_tag_takes_effect_by_policy => "pull-policies",
    only_what_was_announced_runs => "sha256",
    private_images_need_their_secret => "image-pull-secret",
    a_plugin_goes_with_its_resource => "removal",
    a_mounted_module_runs => "mounted-module",
    routes_answer_browsers_and_inject_faults => "routes",
    certificates_say_who_may_ask => "mutual-tls",
    metrics_say_what_telemetry_wants => "metrics",
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

#[expect(clippy::print_stdout, reason = "what is skipped is counted from the output")]
fn is_there(program: &str) -> bool {
    let is_there = Command::new(program).arg("--version").output().is_ok();
    if !is_there {
        println!("SKIPPED: `{program}` is not installed");
    }
    is_there
}

#[track_caller]
fn check(examples: &Path, name: &str) {
    if !is_there("curl") || !is_there("python3") {
        return;
    }
    if name == "mutual-tls" && !is_there("openssl") {
        return;
    }
    if let Err(error) = follow(examples, name, std::env::var_os("BLESS").is_some()) {
        panic!("examples/{name}/README.md, {error}");
    }
}

/// Does what a README says; with `bless`, makes it say what was shown.
///
/// # Errors
///
/// The first command that shows something else.
fn follow(examples: &Path, name: &str, bless: bool) -> Result<(), String> {
    let path = examples.join(name).join("README.md");
    let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let steps = steps(&text)?;
    let mut session = Session::begin(examples, name);
    let mut outputs = Vec::new();
    for step in &steps {
        let at = format!("line {}, {}", step.lines.start, step.command);
        let shown = session.run(&step.command).map_err(|error| format!("{at}: {error}"))?;
        match shown {
            Shown::Exactly(shown) if shown == step.output => outputs.push(None),
            Shown::Exactly(shown) if bless => outputs.push(Some(shown)),
            Shown::Among(shown) if is_among(&step.output, &shown) => outputs.push(None),
            Shown::Exactly(shown) | Shown::Among(shown) => {
                let (expected, shown) = (step.output.join("\n"), shown.join("\n"));
                return Err(format!("{at}\nexpected:\n{expected}\nshown:\n{shown}"));
            }
        }
    }
    if outputs.iter().any(Option::is_some) {
        std::fs::write(path, with_outputs(&text, &steps, outputs)).unwrap();
    }
    Ok(())
}

/// Whether all lines are among the others, in their order.
fn is_among(lines: &[String], others: &[String]) -> bool {
    let mut others = others.iter();
    lines.iter().all(|line| others.any(|other| other == line))
}

#[test]
fn every_folder_is_tested() {
    let mut folders: Vec<String> = std::fs::read_dir(examples())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    folders.sort_unstable();
    let mut tested = FOLDERS.to_vec();
    tested.sort_unstable();
    assert_eq!(folders, tested);
    let list = std::fs::read_to_string(examples().join("README.md")).unwrap();
    for folder in folders {
        assert!(list.contains(&format!("[{folder}]({folder}/README.md)")), "{folder}");
    }
}

#[test]
fn a_readme_that_promises_something_else_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(examples().join("echo.py"), folder.path().join("echo.py")).unwrap();
    let readme = |commands: &str| {
        let example = folder.path().join("a");
        std::fs::create_dir_all(&example).unwrap();
        std::fs::write(example.join("README.md"), format!("```console\n{commands}```\n")).unwrap();
        follow(folder.path(), "a", false)
    };
    assert_eq!(readme("$ echo \\\n  a\na\n$ true\n"), Ok(()));
    for wrong in [
        "$ echo a\n",
        "$ echo a\nb\n",
        "$ echo a\na\nb\n",
        "$ true\na\n",
        "$ false\n",
        "$ echo a >&2\n",
        "$ kill %1\n",
        "$ sleep 1 &\n",
        "$ docker ps\n",
    ] {
        assert!(readme(wrong).is_err(), "{wrong}");
    }
    assert!(follow(folder.path(), "b", false).is_err());
}

#[test]
fn what_a_proxy_says_may_be_shown_in_part() {
    let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert!(is_among(&[], &lines("a b c")));
    assert!(is_among(&lines("a c"), &lines("a b c")));
    for wrong in ["c a", "a d", "a a"] {
        assert!(!is_among(&lines(wrong), &lines("a b c")), "{wrong}");
    }
}
