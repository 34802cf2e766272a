//! How commands end: exit codes, and errors that know theirs. docs/operating.md has the table.

use std::fmt;
use std::process::ExitCode;

use anyhow::Error;

/// What the shell is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// A file, the disk, the network or the service failed; the same command may succeed later.
    Fault = 1,
    /// The command, or a file given with it, is not as it must be; nothing was sent or changed. Also clap's own code.
    Usage = 2,
    /// A check failed: here, at the aggregator or at the service.
    Refused = 3,
    /// The round ended without a sum, or without this client.
    NoSum = 4,
}

/// The table, for `--help` and `help exit-codes`.
pub const TABLE: &str = "\
Exit codes:
  0  done
  1  a fault: a file, the disk, the network or the service; the same command may succeed later
  2  usage: the command, or a file given with it, is not as it must be; nothing was sent or changed
  3  refused: a check failed, here, at the aggregator or at the service
  4  no sum: the round was abandoned, or went on without this client";

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        ExitCode::from(code as u8)
    }
}

/// An error with a code of its own.
#[derive(Debug)]
struct Coded {
    code: Code,
    error: Error,
}

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl std::error::Error for Coded {} // no source: its causes are in its words

/// The same error, ending with this code.
pub fn with(code: Code, error: impl Into<Error>) -> Error {
    Coded { code, error: error.into() }.into()
}

/// The code that an error ends with: its own, or that of a fault.
pub fn code_of(error: &Error) -> Code {
    error.chain().find_map(|cause| cause.downcast_ref::<Coded>()).map_or(Code::Fault, |coded| coded.code)
}

/// Gives the error of a result a code.
pub trait Ends<T> {
    /// What was asked for, or given, is wrong.
    fn or_usage(self) -> Result<T, Error>;
    /// A check failed.
    fn or_refused(self) -> Result<T, Error>;
}

impl<T, E: Into<Error>> Ends<T> for Result<T, E> {
    fn or_usage(self) -> Result<T, Error> {
        self.map_err(|error| with(Code::Usage, error))
    }

    fn or_refused(self) -> Result<T, Error> {
        self.map_err(|error| with(Code::Refused, error))
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn an_error_keeps_its_code_and_its_causes_whatever_is_said_around_it() {
        let wrong: Result<(), Error> = Err(anyhow!("the cause")).context("the reason");
        let error = wrong.or_usage().context("around it").expect_err("it is one");
        assert_eq!(code_of(&error), Code::Usage);
        assert_eq!(format!("{error:#}"), "around it: the reason: the cause");
        assert_eq!(code_of(&anyhow!("plain")), Code::Fault);
    }

    /// The table has one line for each code.
    #[test]
    fn the_table_lists_every_code() {
        for code in [Code::Fault, Code::Usage, Code::Refused, Code::NoSum] {
            assert!(TABLE.contains(&format!("\n  {}  ", code as u8)), "{code:?}");
        }
        assert_eq!(TABLE.lines().count(), 6);
    }
}
