//! Prints `engine/layout.ts`: the numbers of this crate as TypeScript.
use millrace_layout as layout;
use std::fmt::Write as _;
use std::io::Write as _;

fn constants(out: &mut String, indent: &str, table: &[layout::Constant], field: bool) {
    for constant in table {
        let text: Vec<&str> = constant.text.lines().map(str::trim).collect();
        let text = text.join(" ").replace("\\[", "[").replace("\\]", "]");
        let _ = writeln!(out, "{indent}/** {text} */");
        let value = if constant.value >= 65536 && constant.value != u64::from(layout::NONE) {
            grouped(constant.value)
        } else if constant.value == u64::from(layout::NONE) {
            "0xffff_ffff".into()
        } else {
            constant.value.to_string()
        };
        let _ = if field {
            writeln!(out, "{indent}{}: {value},", constant.name)
        } else {
            writeln!(out, "{indent}export const {} = {value};", constant.name)
        };
    }
}

/// 1048576 as 1_048_576.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('_');
        }
        out.push(digit);
    }
    out
}

fn main() {
    let mut out = String::from(
        "// Generated from native/layout/src/lib.rs by `npm run layout`. Do not edit: a test compares the two.\n\
         // What the shared memory looks like is drawn there.\n\n",
    );
    constants(&mut out, "", layout::TABLE, false);
    for (name, table) in [
        ("descriptor", layout::descriptor::TABLE),
        ("kind", layout::kind::TABLE),
        ("command", layout::command::TABLE),
        ("source", layout::source::TABLE),
        ("header", layout::header::TABLE),
        ("request", layout::request::TABLE),
        ("inode", layout::inode::TABLE),
    ] {
        let _ = writeln!(out, "\nexport const {name} = {{");
        constants(&mut out, "  ", table, true);
        out.push_str("} as const;\n");
    }
    let _ = std::io::stdout().write_all(out.as_bytes());
}
