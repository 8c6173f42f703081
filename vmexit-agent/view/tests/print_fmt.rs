//! Kernels' names of exit reasons, parsed from the `print fmt:` lines of `kvm_exit`. `fixtures/print_fmt` has those of
//! Debian's kernels; the line of 6.12 is that of 6.1.

use proptest::{prelude::*, sample::Index};
use vmexit_core::{
    reason::{Names, print_fmt::ReasonNames},
    vendor::Vendor,
};

/// Kernel version, `print fmt:` line, and numbers of names for VMX and SVM.
const KERNELS: [(&str, &str, usize, usize); 3] = [
    ("6.1", include_str!("../../tests/fixtures/print_fmt/6.1.txt"), 62, 108),
    ("6.18", include_str!("../../tests/fixtures/print_fmt/6.18.txt"), 65, 110),
    ("7.3", include_str!("../../tests/fixtures/print_fmt/7.3.txt"), 65, 110),
];

fn find(names: &[(u32, String)], code: u32) -> Option<&str> {
    names.iter().find(|(other, _)| *other == code).map(|(_, name)| name.as_str())
}

#[test]
fn print_fmt_of_real_kernels_names_all_reasons() {
    for (kernel, line, vmx, svm) in KERNELS {
        let names = ReasonNames::parse(line);
        assert_eq!((names.vmx.len(), names.svm.len()), (vmx, svm), "{kernel}");
        assert_eq!(names.vmx.first(), Some(&(0, "EXCEPTION_NMI".into())), "{kernel}");
        assert_eq!(find(&names.vmx, 30), Some("IO_INSTRUCTION"), "{kernel}");
        assert_eq!(find(&names.vmx, 75), Some("NOTIFY"), "{kernel}");
        assert_eq!(find(&names.svm, 0), Some("read_cr0"), "{kernel}");
        assert_eq!(find(&names.svm, 0x4e), Some("PF excp"), "{kernel}");
        assert_eq!(find(&names.svm, 0x8000_fffd), Some("vmgexit_hypervisor_feature"), "{kernel}");
        assert_eq!(find(&names.svm, u32::MAX), Some("invalid_guest_state"), "{kernel}");
        assert_eq!(names.flags, [(1 << 31, "FAILED_VMENTRY".to_owned())], "{kernel}");
    }
}

#[test]
fn built_in_reason_names_match_kernels() {
    for (kernel, line, ..) in KERNELS {
        let names = ReasonNames::parse(line);
        for (vendor, names) in [(Vendor::Vmx, names.vmx), (Vendor::Svm, names.svm)] {
            for (code, name) in names {
                assert_eq!(Names::default().name(Some(vendor), code), name, "{kernel} {code:#x}");
            }
        }
    }
}

#[test]
fn print_fmt_spellings_parse_the_same() {
    let same = [
        // 5.4, the whole `format` file.
        r#"name: kvm_exit
ID: 1
format:
	field:u32 isa;	offset:24;	size:4;	signed:0;

print fmt: "reason %s rip 0x%lx info %llx %llx", (REC->isa == 1) ? __print_symbolic(REC->exit_reason, { 48, "EPT" }) : __print_symbolic(REC->exit_reason, { 0x400, "npf" }), REC->guest_rip, REC->info1, REC->info2
"#,
        r#""%s", (((REC->isa) == (1)) ? __print_symbolic((REC->exit_reason & 0xffff), {48,"EPT"}) : __print_symbolic((REC->exit_reason), {0x400,"npf"}))"#,
        r#""%s", ((REC->isa == 2) ? __print_symbolic(exit_reason, { 0x400ull, "npf" }) : __print_symbolic64(exit_reason, { 060UL, "EPT" }))"#,
        r#"REC->isa == 3 ? __print_symbolic(REC->exit_reason, { 1, "pvm" }) : REC->isa == 1 ? __print_symbolic(REC->exit_reason, { (1 << 5) + 16, "EPT" }) : __print_symbolic(REC->exit_reason, { 0x400 | 0x400, "npf" })"#,
        r#"(isa == 1) ? (isa == 3 ? "" : __print_symbolic(exit_reason, { 48, "EPT" })) : (x ? __print_symbolic(exit_reason, { ((((1UL))) << (10)), "npf" }) : "")"#,
        // Names of another field, and invalid entries.
        r#"(isa == 1) ? __print_symbolic(info1, { 1, "no" }) : "", (isa == 1) ? __print_symbolic(exit_reason, { X, "no" }, { 48, "EPT" }, { 1 }, { 2, 3 }, { 0x1ffffffff, "no" }, { 4, "" }, { 5 5, "no" }) : __print_symbolic(exit_reason, {}, { 0x400, "npf" })"#,
    ];
    for text in same {
        let names = ReasonNames::parse(text);
        assert_eq!(names.vmx, [(48, "EPT".to_owned())], "{text}");
        assert_eq!(names.svm, [(0x400, "npf".to_owned())], "{text}");
    }
}

#[test]
fn print_fmt_without_clear_tables_has_no_names() {
    for text in [
        "",
        "print fmt:",
        r#"__print_symbolic(REC->exit_reason, { 1, "whose?" })"#,
        r#"(isa == 3) ? __print_symbolic(exit_reason, { 1, "a" }) : __print_symbolic(exit_reason, { 1, "b" })"#,
        r#"(isa != 1) ? __print_symbolic(exit_reason, { 1, "a" }) : __print_symbolic(exit_reason, { 1, "b" })"#,
        r#"(isa == 1) ? "" : "", __print_symbolic(exit_reason, { 1, "a" })"#,
        r#"(isa == 1 && x) ? "" : __print_symbolic(exit_reason, { 1, "a" })"#,
        r#""(isa == 1) ? __print_symbolic(exit_reason, { 1, \"quoted\" })""#,
        r#"(isa == 1) ? __print_symbolic(exit_reason, { 1, "a"#,
    ] {
        assert_eq!(ReasonNames::parse(text), ReasonNames::default(), "{text}");
    }
}

#[test]
fn print_fmt_tables_and_nesting_are_bounded() {
    let rows: String = (0..100_000).map(|code| format!(", {{ {code}, \"n\" }}")).collect();
    let names = ReasonNames::parse(&format!("isa == 1 ? __print_symbolic(exit_reason{rows}) : 0"));
    assert_eq!(names.vmx.len(), 1024);
    for deep in ["(", "-", "{", "~(", "?", "isa==1?", "__print_symbolic(", "\"", "1|("] {
        let text = format!("isa == 1 ? __print_symbolic(exit_reason, {{ {}", deep.repeat(500_000));
        assert_eq!(ReasonNames::parse(&text), ReasonNames::default(), "{deep}");
    }
    let wide =
        format!("isa == 1 ? __print_symbolic(exit_reason, {{ {}1, \"x\" }})", "(".repeat(60));
    assert!(ReasonNames::parse(&wide).vmx.is_empty());
}

proptest! {
    #[test]
    fn print_fmt_of_any_text_does_not_panic(text in "\\PC*") {
        ReasonNames::parse(&text);
    }

    #[test]
    fn print_fmt_of_any_tokens_does_not_panic(words in prop::collection::vec(
        prop::sample::select(vec![
            "__print_symbolic", "__print_flags", "(", ")", "{", "}", ",", "?", ":", "isa", "==",
            "1", "2", "-1", "0x", "09", "exit_reason", "\"n\"", "\"", "\\", "&&", "+", "<<", "~",
        ]),
        0..200,
    )) {
        ReasonNames::parse(&words.join(" "));
    }

    #[test]
    fn print_fmt_of_damaged_line_invents_no_names(
        at in any::<Index>(),
        removed in 0usize..40,
        junk in "[ -~é]{0,8}",
    ) {
        let line = KERNELS[2].1;
        let at = at.index(line.len());
        let text = format!("{}{junk}{}", &line[..at], &line[(at + removed).min(line.len())..]);
        let names = ReasonNames::parse(&text);
        // Without the separator, names may be in the wrong table, and the damage adds at most one.
        prop_assert!(names.vmx.len() + names.svm.len() <= 65 + 110 + 1);
    }
}
