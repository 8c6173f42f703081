//! The configuration file of the live view, in TOML. A bad entry is ignored with a warning that has its line.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    env, fs, io,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use ratatui::style::Color;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use vmexit_core::{choice::Choice as _, escape::cut};
use vmexit_view::{
    Figure,
    top::{Column, Role, Set, Theme},
};

use crate::{args::parse_interval, error::Error};

/// Maximum length of a warning, columns.
const WIDEST: usize = 160;

/// Settings of the file; defaults for those that it lacks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    pub(super) interval: Duration,
    pub(super) sort: Figure,
    pub(super) mouse: bool,
    /// Columns from left to right, by table.
    pub(super) columns: BTreeMap<Set, Vec<&'static Column>>,
    pub(super) theme: Theme,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            sort: Figure::Time,
            mouse: true,
            columns: BTreeMap::new(),
            theme: Theme::default(),
        }
    }
}

impl Config {
    /// Reads a file, or without a path the user's file if it exists. Logs bad entries as warnings.
    ///
    /// # Errors
    /// The file can't be read, or does not exist at the given path.
    pub(super) fn load(path: Option<&Path>) -> Result<Self, Error> {
        let Some(file) = path.map(Path::to_owned).or_else(user_config_path) else {
            return Ok(Self::default());
        };
        match fs::read_to_string(&file) {
            Ok(text) => {
                let (config, problems) = Self::parse(&text);
                for (line, problem) in problems {
                    log::warn!("{}:{line}: {}", file.display(), cut(&problem, WIDEST));
                }
                Ok(config)
            }
            Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(source) => Err(Error::Config { path: file, source }),
        }
    }

    /// Parses a file; returns its bad entries too, with line numbers.
    fn parse(text: &str) -> (Self, Vec<(usize, String)>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut reader = Reader { text, problems: Vec::new() };
        for error in errors {
            reader.problem(error.span().unwrap_or(0..0), error.message().to_owned());
        }
        let mut config = Self::default();
        for (key, value) in table.get_ref() {
            reader.entry(&mut config, key, value);
        }
        reader.problems.sort();
        (config, reader.problems)
    }
}

/// `$XDG_CONFIG_HOME/vmexit/config.toml`, or the same in `~/.config`
/// (<https://specifications.freedesktop.org/basedir-spec/latest/>).
fn user_config_path() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".config"));
    let base = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    Some(base.or_else(home)?.join("vmexit").join("config.toml"))
}

/// Reader of entries that collects problems by line.
struct Reader<'a> {
    text: &'a str,
    problems: Vec<(usize, String)>,
}

impl Reader<'_> {
    fn problem(&mut self, at: Range<usize>, problem: String) {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        self.problems.push((before.matches('\n').count() + 1, problem));
    }

    /// Assigns a value that was read, or adds the problem with it.
    fn take<T>(&mut self, into: &mut T, value: &Spanned<DeValue<'_>>, read: Result<T, String>) {
        match read {
            Ok(read) => *into = read,
            Err(problem) => self.problem(value.span(), problem),
        }
    }

    /// Reads an entry of the file.
    fn entry(
        &mut self,
        config: &mut Config,
        key: &Spanned<Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let is = value.get_ref();
        match key.get_ref().as_ref() {
            "interval" => {
                let read = string(is).and_then(parse_interval);
                self.take(&mut config.interval, value, read);
            }
            "sort" => {
                let read = string(is).and_then(Figure::from_name);
                self.take(&mut config.sort, value, read);
            }
            "mouse" => {
                let read = is.as_bool().ok_or_else(|| "write true or false".to_owned());
                self.take(&mut config.mouse, value, read);
            }
            "columns" => self.table(value, |reader, key, value| {
                let set = Set::ALL.into_iter().find(|(name, _)| *name == key.get_ref());
                let Some((_, set)) = set else { return false };
                let mut columns = Vec::new();
                for column in reader.array(value) {
                    let found = string(column.get_ref()).and_then(|name| column_of(set, name));
                    match found {
                        Ok(found) => columns.push(found),
                        Err(problem) => reader.problem(column.span(), problem),
                    }
                }
                if !columns.is_empty() {
                    config.columns.insert(set, columns);
                }
                true
            }),
            "colours" | "colors" => self.table(value, |reader, key, value| {
                let role = Role::ALL.into_iter().find(|(name, _)| *name == key.get_ref());
                let Some((_, role)) = role else { return false };
                match string(value.get_ref()).and_then(colour) {
                    Ok(colour) => config.theme.set(role, colour),
                    Err(problem) => reader.problem(value.span(), problem),
                }
                true
            }),
            _ => self.unknown(key),
        }
    }

    /// Calls `read` for each entry of a table; false means that the entry is unknown.
    fn table(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        mut read: impl FnMut(&mut Self, &Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>) -> bool,
    ) {
        let Some(table) = value.get_ref().as_table() else {
            return self.problem(value.span(), "expected a table".into());
        };
        for (key, value) in table {
            if !read(self, key, value) {
                self.unknown(key);
            }
        }
    }

    fn array<'v>(&mut self, value: &'v Spanned<DeValue<'v>>) -> Vec<&'v Spanned<DeValue<'v>>> {
        match value.get_ref().as_array() {
            Some(array) => array.iter().collect(),
            None => {
                self.problem(value.span(), "expected a list of names".into());
                Vec::new()
            }
        }
    }

    fn unknown(&mut self, key: &Spanned<Cow<'_, str>>) {
        self.problem(key.span(), format!("unknown entry '{}'", key.get_ref()));
    }
}

fn string<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| format!("expected a string, not {}", value.type_str()))
}

fn column_of(set: Set, name: &str) -> Result<&'static Column, String> {
    let columns = set.columns();
    columns.iter().find(|column| column.id == name).ok_or_else(|| {
        let known: Vec<&str> = columns.iter().map(|column| column.id).collect();
        format!("unknown column '{name}'; the columns are {}", known.join(", "))
    })
}

fn colour(name: &str) -> Result<Color, String> {
    name.parse().map_err(|_| {
        format!("'{name}' is not a colour: use one of the 16 names, a number up to 255 or #rrggbb")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_reads_all_entries() {
        let (config, problems) = Config::parse(
            "interval = \"2s\"\nsort = \"max\"\nmouse = false\n\
             [columns]\nvms = [\"exits\", \"vm\"]\n\
             [colours]\nheader = \"yellow\"\nbars = \"#0000ff\"\ntab = \"208\"\n",
        );
        assert_eq!(problems, []);
        assert_eq!((config.interval, config.sort), (Duration::from_secs(2), Figure::Max));
        assert!(!config.mouse);
        let names: Vec<&str> = config.columns[&Set::Vms].iter().map(|column| column.id).collect();
        assert_eq!(names, ["exits", "vm"]);
        let mut theme = Theme::default();
        theme.set(Role::Header, Color::Yellow);
        theme.set(Role::Bars, Color::Rgb(0, 0, 255));
        theme.set(Role::Tab, Color::Indexed(208));
        assert_eq!(config.theme, theme);
    }

    #[test]
    fn parse_of_bad_entries_returns_their_lines() {
        let (config, problems) = Config::parse(
            "interval = \"never\"\nsort = 3\ncolour = 1\nmouse = 0\n\
             [columns]\nvms = [\"vm\",\n  \"exit\"]\nrows = \"what\"\nx = []\n\
             [colours]\nheader = \"mauve\"\nselected = \"red\"\nsky = \"blue\"\n",
        );
        let lines: Vec<usize> = problems.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 7, 8, 9, 11, 13], "{problems:?}");
        assert!(problems[4].1.contains("'exit'; the columns are vm, pid"), "{problems:?}");
        assert!(problems[7].1.contains("'mauve' is not a colour"), "{problems:?}");
        let mut theme = Theme::default();
        theme.set(Role::Selected, Color::Red);
        let columns = [(Set::Vms, vec![&Set::Vms.columns()[0]])].into();
        assert_eq!(config, Config { theme, columns, ..Config::default() });
    }

    #[test]
    fn parse_of_bad_toml_keeps_other_lines() {
        let (config, problems) =
            Config::parse("sort = \"avg\"\nmouse = maybe\ninterval = \"5s\"\n");
        assert_eq!((config.sort, config.interval), (Figure::Avg, Duration::from_secs(5)));
        assert!(
            !problems.is_empty() && problems.iter().all(|(line, _)| *line == 2),
            "{problems:?}"
        );
    }

    #[test]
    fn parse_of_example_in_docs_has_no_problems() {
        let page = include_str!("../../../../docs/top.md");
        let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let (config, problems) = Config::parse(example);
        assert_eq!(problems, []);
        assert_ne!(config, Config::default());
    }
}
