//! The first message of every daemon, and those that it may send at any time.

crate::data! {
    /// How loud a line of the log is. CLN's words.
    pub tag LogLevel {
        /// Bytes.
        0 => Io,
        /// Every step.
        1 => Trace,
        /// What helps to understand a problem.
        2 => Debug,
        /// What an operator may like to read.
        3 => Info,
        /// What an operator should look at.
        4 => Unusual,
        /// A bug, or money in danger.
        5 => Broken,
    }
}

crate::internal! {
    /// The first frame on a child's stdin. Descriptors: its upward socket, and the master's lock to
    /// hold while it lives.
    1 => Start {
        /// [`crate::VERSION`] of the master. A child of another version says so on stderr and exits
        /// with code 10.
        version: u64,
        /// Nothing below this is worth sending.
        log_level: LogLevel,
        /// `--developer`.
        developer: bool,
        /// `--sandbox=required`: a child that cannot enter its box ends.
        sandbox_required: bool,
    }
    /// A line for the log.
    10 => Log { level: LogLevel, text: String }
    /// The activity of this daemon, for `status` in listpeerchannels: one lasting line per state,
    /// one passing line.
    11 => Status { lasting: Option<String>, passing: Option<String> }
    /// The last word of a daemon that ends in failure: whose fault it was, and what the peer was
    /// told if anything.
    12 => Failed { fault: Fault, text: String }
}

crate::data! {
    /// Whose fault an ending is. DESIGN's circles (b) and (c).
    pub enum Fault {
        /// Ours: a bug, logged as broken; the channel reconnects.
        0 => Internal,
        /// The peer was sent this warning, and the connection closes.
        1 => PeerWarned { told: String },
        /// The peer was sent this error: the channel (or the attempt) is over.
        2 => PeerErred { told: String },
        /// The peer sent us an error: the channel (or the attempt) is over.
        3 => PeerSaidError { said: String },
        /// The peer sent us a warning that ends this connection.
        4 => PeerSaidWarning { said: String },
        /// The connection is gone.
        5 => ConnectionLost,
        /// The master asked for the end.
        6 => Cancelled,
    }
}
