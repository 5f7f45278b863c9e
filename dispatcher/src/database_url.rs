//! What may stand in `database.url`, checked before anybody connects.

use url::Url;

/// Parameters that mean something here.
const PARAMETERS: [&str; 7] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "user",
    "options",
];

/// Says what is wrong with a URL of a PostgreSQL database, and never the URL itself, which may hold a password.
///
/// # Errors
/// As said.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let invalid = |reason: &str| {
        Err(format!(
            "is not a URL such as postgres://user:password@host:5432/name: {reason}"
        ))
    };
    let scheme = text.split(':').next().unwrap_or_default();
    // SQLAlchemy puts its driver behind it: postgresql+asyncpg.
    match scheme.split('+').next().unwrap_or_default() {
        "postgres" | "postgresql" => {}
        "sqlite" => return invalid("for SQLite, leave it out and set database.path to the file"),
        _ => return invalid("it begins with neither postgres:// nor postgresql://"),
    }
    let Ok(url) = Url::parse(text) else {
        return invalid("it cannot be read");
    };
    let mut parameters = url.query_pairs();
    if let Some((name, _)) = parameters.find(|(name, _)| !PARAMETERS.contains(&name.as_ref())) {
        let known = PARAMETERS.join(", ");
        return invalid(&format!("there is no parameter `{name}` (there are {known})"));
    }
    if url.fragment().is_some() {
        return invalid("a # in it has to be written as %23");
    }
    // A folder with a socket is a parameter.
    let socket = url.query_pairs().any(|(name, _)| name == "host");
    if !socket && url.host_str().is_none_or(str::is_empty) {
        return invalid("it names no host");
    }
    let name = url.path().trim_start_matches('/');
    if name.is_empty() || name.contains('/') {
        return invalid("it names no database behind the host");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_postgresql_are_good() {
        for text in [
            "postgresql+asyncpg://user:p%40ss@db.example:6432/notifications?sslmode=require",
            "postgres://localhost/a",
            "postgres:///a?host=/run/postgresql&user=carillon",
        ] {
            check(text).unwrap();
        }
    }

    #[test]
    fn what_is_no_url_is_refused_without_being_repeated() {
        for (text, reason) in [
            ("s3cret", "begins with neither"),
            ("postgres://u:s3cret@h:port/a", "cannot be read"),
            ("mysql://u:s3cret@h/a", "begins with neither"),
            ("sqlite:///s3cret.db", "database.path"),
            ("postgres://u:s3cret@h", "names no database"),
            ("postgres://u:s3cret@h/a/b", "names no database"),
            ("postgres:///a", "names no host"),
            ("postgres://u:s3cret@h/a?ssl=s3cret", "no parameter `ssl`"),
            ("postgres://u:s3#cret@h/a", ""),
            ("postgres://u@h/a#s3cret", "%23"),
        ] {
            let refused = check(text).unwrap_err();
            assert!(
                refused.contains(reason) && !refused.contains("cret"),
                "{text}: {refused}"
            );
        }
    }
}
