//! The running kernel's names of exit reasons, parsed from the `print fmt:` line of `kvm_exit`'s
//! `format` file. They include names newer than this program. The result is one table per vendor,
//! and Intel's flags.
//!
//! The line is C, expanded from `kvm_print_exit_reason` in arch/x86/kvm/trace.h, with macros and
//! enumerators replaced by their values:
//!
//! ```text
//! (REC->isa == 1) ? __print_symbolic(REC->exit_reason & 0xffff, { 0, "EXCEPTION_NMI" }, …)
//!                 : __print_symbolic(REC->exit_reason, { 0x040 + 14, "PF excp" }, { -1ull, "…" })
//! ```
//!
//! Kernels differ in parentheses, masks and suffixes. The parser therefore looks only for these
//! calls and for the conditions around them, and skips everything else.

use std::{iter::Peekable, vec};

use serde::{Deserialize, Serialize};
use vmexit_common::vcpu::{ISA_SVM, ISA_VMX};

/// Maximum length of parsed text, bytes: the limit for `format` files.
const MAX_TEXT: usize = 256 * 1024;
/// Maximum number of rows per table (the kernel has about 110) and of tokens per row (about five).
const MAX_ROWS: usize = 1024;
const MAX_ROW: usize = 64;
/// Maximum length of a name, bytes; the kernel's have up to 30.
const MAX_NAME: usize = 80;
/// Maximum nesting of parentheses in a number, and of conditions around a table.
const MAX_NESTING: usize = 16;

/// Codes and names, in the kernel's order.
pub type NameTable = Vec<(u32, String)>;

/// The kernel's names of exit reasons; empty if it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct ReasonNames {
    /// Names of Intel's exit reasons.
    pub vmx: NameTable,
    /// Names of AMD's exit codes.
    pub svm: NameTable,
    /// Names of Intel's flag bits, such as `FAILED_VMENTRY`.
    pub flags: NameTable,
}

impl ReasonNames {
    /// Parses the text of `kvm_exit`'s `format` file, or its `print fmt:` line.
    pub fn parse(format: &str) -> Self {
        let line = format.split_once("print fmt:").map_or(format, |(_, line)| line);
        let mut names = Self::default();
        let mut branches = Branches::default();
        let mut tokens = tokens(line).into_iter().peekable();
        while let Some(token) = tokens.next() {
            branches.advance(token);
            if branches.conditions.len() + branches.excluded.len() > MAX_NESTING {
                break;
            }
            let Token::Word(call) = token else { continue };
            let table = match (call, branches.isa()) {
                ("__print_symbolic" | "__print_symbolic64", Some(ISA_VMX)) => &mut names.vmx,
                ("__print_symbolic" | "__print_symbolic64", Some(ISA_SVM)) => &mut names.svm,
                ("__print_flags" | "__print_flags64", None | Some(ISA_VMX)) => &mut names.flags,
                _ => continue,
            };
            let rows = rows(&mut tokens);
            if table.is_empty() {
                *table = rows;
            }
        }
        names
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Number(u64),
    /// A string literal without its quotation marks, escapes unprocessed.
    Text(&'a str),
    Sign(&'a str),
}

type Tokens<'a> = Peekable<vec::IntoIter<Token<'a>>>;

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut rest = text[..text.floor_char_boundary(MAX_TEXT)].trim_start();
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '"' => {
                let text = &rest[1..];
                let mut escaped = false;
                let end = text.find(|letter| {
                    let ends = letter == '"' && !escaped;
                    escaped = letter == '\\' && !escaped;
                    ends
                });
                let Some(end) = end else { break };
                (Token::Text(&text[..end]), end + 2)
            }
            'a'..='z' | 'A'..='Z' | '_' | '0'..='9' => {
                let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
                let length = rest.find(|letter| !word(letter)).unwrap_or(rest.len());
                let word = &rest[..length];
                (number(word).map_or(Token::Word(word), Token::Number), length)
            }
            _ => {
                let pairs = ["==", "!=", "<=", ">=", "<<", ">>", "&&", "||", "->"];
                let pair = pairs.iter().any(|pair| rest.starts_with(pair));
                let length = if pair { 2 } else { first.len_utf8() };
                (Token::Sign(&rest[..length]), length)
            }
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// A C number: decimal, octal or hexadecimal, with any suffix.
fn number(word: &str) -> Option<u64> {
    if !word.starts_with(|letter: char| letter.is_ascii_digit()) {
        return None;
    }
    let digits = word.trim_end_matches(['u', 'U', 'l', 'L']);
    let (digits, radix) = match digits.get(..2) {
        Some("0x" | "0X") => (&digits[2..], 16),
        Some(prefix) if prefix.starts_with('0') => (&digits[1..], 8),
        _ => (digits, 10),
    };
    u64::from_str_radix(digits, radix).ok()
}

/// Tokens of `isa == NUMBER` that have been read.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Comparison {
    #[default]
    Nothing,
    Isa,
    Equals,
}

/// Position in `isa == … ? … : …`.
#[derive(Default)]
struct Branches {
    /// Depth of parentheses.
    depth: usize,
    /// Progress in a comparison of `isa`.
    reading: Comparison,
    /// `isa` of the condition being read.
    isa: Option<u32>,
    /// Whether that condition has other parts too.
    mixed: bool,
    /// Conditions of the present branch: depth, `isa`, and whether the other branch covers all
    /// other values.
    conditions: Vec<(usize, Option<u32>, bool)>,
    /// Values excluded in the present branch, with their depth.
    excluded: Vec<(usize, u32)>,
}

impl Branches {
    fn advance(&mut self, token: Token<'_>) {
        self.reading = match (token, self.reading) {
            (Token::Word("isa"), _) => Comparison::Isa,
            (Token::Sign("=="), Comparison::Isa) => Comparison::Equals,
            (Token::Sign("(" | ")"), reading) => reading,
            (Token::Number(isa), Comparison::Equals) => {
                self.isa = u32::try_from(isa).ok();
                Comparison::Nothing
            }
            _ => Comparison::Nothing,
        };
        match token {
            Token::Sign("&&" | "||") => self.mixed = true,
            Token::Sign("(") => self.depth += 1,
            Token::Sign(")") => {
                self.depth = self.depth.saturating_sub(1);
                self.leave(self.depth + 1);
            }
            Token::Sign("?") => {
                self.conditions.push((self.depth, self.isa.take(), !self.mixed));
                self.mixed = false;
            }
            Token::Sign(":") => {
                if let Some((depth, Some(isa), true)) = self.conditions.pop() {
                    self.excluded.push((depth, isa));
                }
            }
            // End of an argument.
            Token::Sign(",") => {
                (self.isa, self.mixed) = (None, false);
                self.leave(self.depth);
            }
            _ => {}
        }
    }

    /// Drops conditions at this depth and deeper.
    fn leave(&mut self, depth: usize) {
        while self.conditions.last().is_some_and(|(at, ..)| *at >= depth) {
            self.conditions.pop();
        }
        while self.excluded.last().is_some_and(|(at, _)| *at >= depth) {
            self.excluded.pop();
        }
    }

    /// `isa` in the present branch; `None` if undetermined.
    fn isa(&self) -> Option<u32> {
        if let Some(isa) = self.conditions.iter().rev().find_map(|(_, isa, _)| *isa) {
            return Some(isa);
        }
        let excluded = |isa| self.excluded.iter().any(|(_, other)| *other == isa);
        match (excluded(ISA_VMX), excluded(ISA_SVM)) {
            (true, false) => Some(ISA_SVM),
            (false, true) => Some(ISA_VMX),
            _ => None,
        }
    }
}

/// The rows `{ number, "name" }` of a call whose opening parenthesis comes next; empty if the call
/// is not about the exit reason.
fn rows(tokens: &mut Tokens<'_>) -> NameTable {
    let (mut rows, mut depth, mut is_exit_reason) = (NameTable::new(), 1usize, false);
    if tokens.next_if_eq(&Token::Sign("(")).is_none() {
        return rows;
    }
    while let Some(token) = tokens.next() {
        match token {
            Token::Sign("(") => depth += 1,
            Token::Sign(")") if depth == 1 => break,
            Token::Sign(")") => depth -= 1,
            Token::Word("exit_reason") => is_exit_reason = true,
            Token::Sign("{") => {
                let row: Vec<Token<'_>> =
                    tokens.by_ref().take_while(|token| *token != Token::Sign("}")).collect();
                if rows.len() < MAX_ROWS && row.len() <= MAX_ROW {
                    rows.extend(self::row(&row));
                }
            }
            _ => {}
        }
    }
    if is_exit_reason { rows } else { NameTable::new() }
}

fn row(tokens: &[Token<'_>]) -> Option<(u32, String)> {
    let [code @ .., Token::Sign(","), Token::Text(name)] = tokens else { return None };
    let mut code = code;
    let value = expression(&mut code, 0, 0).filter(|_| code.is_empty())?;
    // Negative codes are errors: the field has 32 bits, and is compared unsigned.
    let value = u32::try_from(value)
        .ok()
        .or_else(|| i32::try_from(value.cast_signed()).ok().map(i32::cast_unsigned))?;
    let is_valid = !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.contains(|letter: char| letter.is_control() || letter == '\\');
    is_valid.then(|| (value, (*name).to_owned()))
}

/// Binary operators, lowest precedence first.
const OPERATORS: [&[&str]; 3] = [&["|"], &["<<", ">>"], &["+", "-"]];

/// A constant C expression with the operators that such tables use; 64 bits, wrapping.
fn expression(tokens: &mut &[Token<'_>], level: usize, nesting: usize) -> Option<u64> {
    let Some(operators) = OPERATORS.get(level) else { return operand(tokens, nesting) };
    let mut value = expression(tokens, level + 1, nesting)?;
    while let [Token::Sign(sign), rest @ ..] = *tokens
        && operators.contains(sign)
    {
        *tokens = rest;
        let other = expression(tokens, level + 1, nesting)?;
        value = match *sign {
            "|" => value | other,
            "<<" => value.checked_shl(u32::try_from(other).ok()?)?,
            ">>" => value.checked_shr(u32::try_from(other).ok()?)?,
            "+" => value.wrapping_add(other),
            _ => value.wrapping_sub(other),
        };
    }
    Some(value)
}

fn operand(tokens: &mut &[Token<'_>], nesting: usize) -> Option<u64> {
    let (first, rest) = tokens.split_first()?;
    *tokens = rest;
    if nesting == MAX_NESTING {
        return None;
    }
    match first {
        Token::Number(value) => Some(*value),
        Token::Sign("-") => operand(tokens, nesting + 1).map(u64::wrapping_neg),
        Token::Sign("~") => operand(tokens, nesting + 1).map(|value| !value),
        Token::Sign("(") => {
            let value = expression(tokens, 0, nesting + 1)?;
            let (last, rest) = tokens.split_first()?;
            *tokens = rest;
            (*last == Token::Sign(")")).then_some(value)
        }
        _ => None,
    }
}
