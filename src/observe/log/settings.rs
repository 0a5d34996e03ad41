//! What the log is told: `[log]`.

use settings::{section, word, words};

section! {
    /// Log lines, on standard error.
    pub struct Log {
        /// Shape of a log line.
        pub format: LogFormat = word().default("json"),
        /// Lowest level that is written. Libraries never get below warnings, whatever stands here, because there they
        /// write down what was sent.
        pub level: Level = word().default("info"),
    }
}

words! {
    /// Shape of a log line.
    pub enum LogFormat {
        /// One JSON object a line.
        Json = "json",
        /// Text for people.
        Text = "text",
    }
}

words! {
    /// How much a log line matters, the most first.
    pub enum Level {
        /// Somebody must do something.
        Error = "error",
        /// Something is not as it should be, and goes on.
        Warn = "warn",
        /// What happens, one line for each event.
        Info = "info",
        /// Each step.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

impl From<Level> for tracing::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}
