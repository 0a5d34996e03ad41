//! `[linxo.users]`: how a user's token is got.
//!
//! A table of passwords is read here at start, so that a mistake in it stops the start.

use super::{
    Passwords, UserEndpoint, Users,
    build::header_safe,
    reader::{Flaw, Read, Section},
    urls,
};
use linxo::{
    settings::{Client, StaticToken},
    users::{Table, USER_ID},
};

/// Reads the section.
pub(super) fn read(section: &mut Section<'_, '_>) -> Read<Users> {
    let mode =
        section.word("mode", |word| ["client", "password", "endpoint", "static"].into_iter().find(|m| *m == word));
    let mode = mode?;
    section.refuse_misplaced("mode", mode);
    match mode {
        "password" => passwords(section).map(Users::Password),
        "endpoint" => endpoint(section).map(Users::Endpoint),
        "static" => {
            let token = section.secret("token", header_safe);
            let token = section.required("token", token)?;
            Ok(Users::Static(StaticToken { token }))
        }
        _ => Ok(Users::Client(Client {})),
    }
}

fn passwords(section: &mut Section<'_, '_>) -> Read<Passwords> {
    let username = section.optional_text("username");
    let secret = section.secret("password_secret", |_| Ok(()));
    if section.is_given("table") {
        if section.is_given("username") || section.is_given("password_secret") {
            return Err(section.flawed(
                "table",
                Flaw::new(
                    "is given besides username and password_secret",
                    "remove the table, or remove the other two: passwords come from one place",
                ),
            ));
        }
        let path = section.path("table")?;
        let path = section.must_be_private("table", &path)?;
        return match Table::read(&path) {
            Ok(_) => Ok(Passwords::Table(path)),
            Err(error) => Err(section.flawed(
                "table",
                Flaw::new(
                    format!("names a table that cannot be used: {error}"),
                    "write user_id,username,password first, then a line for each user; quote fields that hold commas",
                ),
            )),
        };
    }
    let (username, secret) = (username?, secret?);
    let (Some(username), Some(secret)) = (username, secret) else {
        let missing = if section.is_given("username") { "password_secret" } else { "username" };
        if section.is_given("username") || section.is_given("password_secret") {
            return Err(section.flawed(missing, Flaw::new("is required", "give username and password_secret together")));
        }
        return Err(section.flawed(
            "table",
            Flaw::new(
                "is required where mode = \"password\"",
                "write table = \"secrets/users.csv\", or username = \"{user_id}@example.com\" and password_secret",
            ),
        ));
    };
    if !username.contains(USER_ID) {
        return Err(section.flawed(
            "username",
            Flaw::new("must contain {user_id}", "write a user name such as \"{user_id}@example.com\""),
        ));
    }
    Ok(Passwords::Derived { username, secret })
}

fn endpoint(section: &mut Section<'_, '_>) -> Read<UserEndpoint> {
    let url = section.text("url", |text| {
        if !text.contains(USER_ID) {
            return Err(Flaw::new(
                "must contain {user_id}",
                "write a URL such as \"https://app.internal/linxo-token/{user_id}\"",
            ));
        }
        let example = urls::destination(&text.replace(USER_ID, "0"))?;
        // In the host the user's id would choose whom a bearer token is sent to.
        let other = urls::destination(&text.replace(USER_ID, "1"))?;
        if example.origin() != other.origin() {
            return Err(Flaw::new("has {user_id} in its host", "put it into the path or the query"));
        }
        Ok(text.to_owned())
    });
    let bearer = section.secret("bearer", header_safe);
    let authorities = section.readable_files("authorities");
    let (certificate, key) = match (section.is_given("certificate"), section.is_given("key")) {
        (false, false) => (Ok(None), Ok(None)),
        (true, true) => {
            let certificate =
                section.path("certificate").and_then(|file| section.must_be_readable("certificate", &file));
            let key = section.path("key").and_then(|file| section.must_be_private("key", &file));
            (certificate.map(Some), key.map(Some))
        }
        (given, _) => {
            let missing = if given { "key" } else { "certificate" };
            let flaw = Flaw::new("is required", "give certificate and key together");
            return Err(section.flawed(missing, flaw));
        }
    };
    Ok(UserEndpoint { url: url?, bearer: bearer?, certificate: certificate?, key: key?, authorities: authorities? })
}
