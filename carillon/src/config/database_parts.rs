//! The variables of S3.15 that say in parts where the database is.

use common::config::ConfigError;

/// The variable with the whole.
pub(super) const DATABASE_URL: &str = "DATABASE_URL";

/// The variables with [`DATABASE_URL`] made from `DB_HOST`, `DB_PORT`, `DB_NAME`, `DB_USER` and `DB_PASSWORD`, where the
/// first of these is set and the whole is not.
///
/// # Errors
/// [`ConfigError::Invalid`] names the part.
pub(super) fn joined(
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut variables: Vec<_> = variables.into_iter().collect();
    let part = |name: &str| {
        let found = variables.iter().find(|(other, _)| other == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    };
    if let (Some(host), None) = (part("DB_HOST"), part(DATABASE_URL)) {
        let invalid = |name: &str, reason: &str| Err(ConfigError::invalid(name, reason));
        if !host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte))
        {
            return invalid("DB_HOST", "is neither a name nor an address");
        }
        let Ok(port) = part("DB_PORT").unwrap_or("5432").parse::<u16>() else {
            return invalid("DB_PORT", "is not a port");
        };
        let Some(name) = part("DB_NAME") else {
            return invalid("DB_NAME", "is needed with DB_HOST: the name of the database");
        };
        let login = match (part("DB_USER"), part("DB_PASSWORD")) {
            (Some(user), Some(password)) => format!("{}:{}@", escaped(user), escaped(password)),
            (Some(user), None) => format!("{}@", escaped(user)),
            (None, None) => String::new(),
            (None, Some(_)) => return invalid("DB_USER", "is needed with DB_PASSWORD"),
        };
        // An IPv6 address stands in brackets in a URL.
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let url = format!("postgres://{login}{host}:{port}/{}", escaped(name));
        variables.retain(|(name, _)| name != DATABASE_URL);
        variables.push((DATABASE_URL.to_owned(), url));
    }
    Ok(variables)
}

/// A part of a URL (RFC 3986, section 2.1).
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}
