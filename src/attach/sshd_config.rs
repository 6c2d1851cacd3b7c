//! Reading sshd's configuration as sshd_config(5) describes it: keywords, Match, Include. Only to
//! find things and to name them by file and line; what is in force is asked of `sshd -T`.

use super::glob;

/// How deep Include may nest; sshd's own limit.
const MAX_DEPTH: usize = 16;
/// The main file.
pub const MAIN: &str = "/etc/ssh/sshd_config";
/// The folder against which a relative Include is read.
const FOLDER: &str = "/etc/ssh/";

/// One line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The file it stands in.
    pub file: String,
    /// Its number there, from 1.
    pub number: usize,
    /// The words of the Match that it belongs to; `None` for the global part.
    pub matching: Option<String>,
    /// In lower case.
    pub keyword: String,
    /// The rest, trimmed, comments not cut.
    pub value: String,
}

impl Line {
    /// `file:number`.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.number)
    }
}

/// Splits a line into keyword (lower case) and value; `None` for comments and empty lines.
fn statement(line: &str) -> Option<(String, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
    let (keyword, rest) = line.split_at_checked(end)?;
    let value = rest.trim_start().trim_start_matches('=').trim();
    Some((keyword.to_ascii_lowercase(), value))
}

/// The patterns of an Include line, absolute.
fn include_patterns(value: &str) -> Vec<String> {
    let words = value.split_whitespace().take_while(|word| !word.starts_with('#'));
    words
        .map(|word| word.trim_matches('"'))
        .map(|word| if word.starts_with('/') { word.to_owned() } else { format!("{FOLDER}{word}") })
        .collect()
}

/// Whether the main file includes `path` by a pattern that stands before any Match.
#[must_use]
pub fn includes(main: &str, path: &str) -> bool {
    main.lines()
        .filter_map(statement)
        .take_while(|(keyword, _)| keyword != "match")
        .filter(|(keyword, _)| keyword == "include")
        .any(|(_, value)| include_patterns(value).iter().any(|pattern| glob::matches(pattern, path)))
}

/// All lines in the order in which sshd reads them. `files` answers the (path, text) of a pattern,
/// sorted by path.
pub fn walk(main: &str, files: &dyn Fn(&str) -> Vec<(String, String)>) -> Vec<Line> {
    let mut lines = Vec::new();
    descend(MAIN, main, None, 0, files, &mut lines);
    lines
}

fn descend(
    file: &str,
    text: &str,
    outer: Option<&str>,
    depth: usize,
    files: &dyn Fn(&str) -> Vec<(String, String)>,
    lines: &mut Vec<Line>,
) {
    // A Match in an included file ends with that file.
    let mut matching = outer.map(str::to_owned);
    for (at, text) in text.lines().enumerate() {
        let Some((keyword, value)) = statement(text) else { continue };
        if keyword == "match" {
            matching = Some(value.to_owned());
        }
        if keyword == "include" && depth < MAX_DEPTH {
            for pattern in include_patterns(value) {
                for (path, text) in files(&pattern) {
                    descend(&path, &text, matching.as_deref(), depth.saturating_add(1), files, lines);
                }
            }
        }
        let line = Line {
            file: file.to_owned(),
            number: at.saturating_add(1),
            matching: matching.clone(),
            keyword,
            value: value.to_owned(),
        };
        lines.push(line);
    }
}

/// What `sshd -T` printed: keyword and value of each line.
#[derive(Clone, Debug, Default)]
pub struct Effective(Vec<(String, String)>);

impl Effective {
    /// Reads it.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(statement).map(|(key, value)| (key, value.to_owned())).collect())
    }

    /// The first value of a keyword; empty when it is not printed.
    #[must_use]
    pub fn get(&self, keyword: &str) -> &str {
        self.0.iter().find(|(key, _)| key == keyword).map_or("", |(_, value)| value)
    }

    /// All values of a keyword that may be printed more than once.
    pub fn all<'a>(&'a self, keyword: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == keyword).map(|(_, value)| value.as_str())
    }
}

/// The version in what `sshd -V` says, such as `OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL …`.
#[must_use]
pub fn version(said: &str) -> Option<(u32, u32)> {
    let rest = said.split_once("OpenSSH_")?.1;
    let (major, rest) = rest.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shape of an AKS Ubuntu node: no glob, a hardening file, another agent's block at the end.
    const AKS: &str = "\
# What ports, IPs and protocols we listen for
Include /etc/ssh/sshd_config.d/99-aks-cis.conf
Port 22
PubkeyAuthentication no
DenyUsers root omsagent nxautomation
Match User *@*,????????-????-????-????-????????????    # Added by aadsshlogin installer
    AuthenticationMethods publickey
    AuthorizedKeysCommand /usr/sbin/aad_certhandler %u %k
";

    #[test]
    fn the_glob_counts_only_before_a_match() {
        let path = "/etc/ssh/sshd_config.d/50-nightlatch.conf";
        assert!(includes("Include /etc/ssh/sshd_config.d/*.conf\n", path));
        assert!(includes("Port 22\n  include=\"sshd_config.d/*\"\n", path));
        assert!(includes("Include /etc/ssh/a.conf /etc/ssh/sshd_config.d/*.conf # all\n", path));
        assert!(!includes(AKS, path));
        assert!(!includes("#Include /etc/ssh/sshd_config.d/*.conf\n", path));
        assert!(!includes("Match User x\nInclude /etc/ssh/sshd_config.d/*.conf\n", path));
    }

    #[test]
    fn lines_come_in_sshds_order_with_their_match() {
        let files = |pattern: &str| match pattern {
            "/etc/ssh/sshd_config.d/99-aks-cis.conf" => {
                vec![(pattern.to_owned(), "Match Group x\nMaxAuthTries 4\n".to_owned())]
            }
            _ => Vec::new(),
        };
        let lines = walk(AKS, &files);
        let tries = lines.iter().find(|line| line.keyword == "maxauthtries").unwrap();
        assert_eq!((tries.number, tries.matching.as_deref()), (2, Some("Group x")));
        let port = lines.iter().find(|line| line.keyword == "port").unwrap();
        assert_eq!((port.matching.as_deref(), port.place().as_str()), (None, "/etc/ssh/sshd_config:3"));
        let hook = lines.iter().find(|line| line.value.contains("aad_certhandler")).unwrap();
        assert!(hook.matching.as_ref().unwrap().starts_with("User *@*,"));
        assert!(lines.iter().position(|l| l == tries) < lines.iter().position(|l| l == port));
    }

    #[test]
    fn a_file_that_includes_itself_ends() {
        let main = "Include /etc/ssh/sshd_config\n";
        assert!(walk(main, &|_| vec![(MAIN.into(), main.into())]).len() <= MAX_DEPTH + 1);
    }

    #[test]
    fn the_effective_configuration_is_read() {
        let effective = Effective::parse("port 22\nusepam yes\nallowusers a\nallowusers b@c\n");
        assert_eq!((effective.get("usepam"), effective.get("nothing")), ("yes", ""));
        assert_eq!(effective.all("allowusers").collect::<Vec<_>>(), ["a", "b@c"]);
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(version("unknown option -- V\nOpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3"), Some((9, 2)));
        assert_eq!(version("OpenSSH_8.9p1 Ubuntu-3ubuntu0.16"), Some((8, 9)));
        assert_eq!(version("OpenSSH_10.0p2, x"), Some((10, 0)));
        assert_eq!(version("sshd: no"), None);
    }
}
