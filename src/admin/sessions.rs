//! Sessions of people who logged in with a token: what their cookies stand for.
//!
//! A session's id is random and only its hash is kept, in memory: a restart ends all sessions. Each belongs to a token. When that
//! token is no longer configured, or may do less, the session follows at once. The number of sessions is bounded; the one that was
//! used least lately makes room.

use super::{
    access::{Guards, Who},
    settings::Token,
};
use base::sync::lock;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use std::{collections::HashMap, sync::Mutex, time::Duration};
use tokio::time::Instant;

/// Sessions at once.
const MOST: usize = 256;
/// A session that is not used for so long ends.
const IDLE: Duration = Duration::from_hours(1);
/// A session ends after this in any case.
pub(super) const AGE: Duration = Duration::from_hours(12);

type Hash = [u8; 32];

#[derive(Debug)]
struct Session {
    /// Hash of the secret that it was begun with.
    token: Hash,
    began: Instant,
    used: Instant,
}

/// Every session.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<Hash, Session>>);

impl Sessions {
    /// Begins one; returns its id for the cookie.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub(super) fn begin(&self, token: &Token) -> Result<String, rustls::crypto::GetRandomFailed> {
        let id = HEXLOWER.encode(&random()?);
        let mut kept = lock(&self.0);
        kept.retain(|_, session| session.lasts());
        if kept.len() >= MOST
            && let Some(oldest) = kept.iter().min_by_key(|(_, session)| session.used).map(|(hash, _)| *hash)
        {
            kept.remove(&oldest);
        }
        let now = Instant::now();
        kept.insert(hash(&id), Session { token: hash(token.secret.expose()), began: now, used: now });
        Ok(id)
    }

    /// Whose session this is, by the tokens that are configured now.
    pub(super) fn find(&self, id: &str, guards: &Guards) -> Option<Who> {
        let id = hash(id);
        let mut kept = lock(&self.0);
        let session = kept.get_mut(&id).filter(|session| session.lasts())?;
        let token = guards.tokens().iter().find(|token| hash(token.secret.expose()) == session.token);
        let Some(token) = token else {
            kept.remove(&id);
            return None;
        };
        session.used = Instant::now();
        Some(Who { name: token.name.clone(), may: token.may })
    }

    /// Ends one.
    pub(super) fn end(&self, id: &str) {
        lock(&self.0).remove(&hash(id));
    }
}

impl Session {
    fn lasts(&self) -> bool {
        self.used.elapsed() < IDLE && self.began.elapsed() < AGE
    }
}

/// 32 bytes that nobody can guess.
///
/// # Errors
/// The system gives no randomness.
pub(super) fn random() -> Result<Hash, rustls::crypto::GetRandomFailed> {
    let mut bytes = [0; 32];
    rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut bytes)?;
    Ok(bytes)
}

fn hash(text: &str) -> Hash {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::settings::{Admin, May};
    use base::secret::Secret;

    fn token(name: &str, may: May) -> Token {
        Token { name: name.to_owned(), may, secret: Secret::new(format!("secret-of-{name}")) }
    }

    fn guards(tokens: Vec<Token>) -> Guards {
        Guards::load(&Admin { tokens, ..settings::defaults().unwrap() }).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_with_its_token_its_time_and_by_itself() {
        let (sessions, anna) = (Sessions::default(), token("anna", May::Act));
        let both = guards(vec![anna.clone(), token("ben", May::Read)]);
        let begin = || sessions.begin(&anna).unwrap();
        let id = begin();
        assert!(id.len() == 64 && sessions.find("other", &both).is_none());
        assert_eq!(sessions.find(&id, &both), Some(Who { name: "anna".to_owned(), may: May::Act }));
        let less = guards(vec![Token { may: May::Read, ..anna.clone() }]);
        assert!(!sessions.find(&id, &less).unwrap().may_act(), "what the token may is what the session may");
        assert_eq!(sessions.find(&id, &guards(vec![token("ben", May::Read)])), None);
        assert_eq!(sessions.find(&id, &both), None, "the session is gone, and does not come back with the token");
        let id = begin();
        sessions.end(&id);
        assert_eq!(sessions.find(&id, &both), None);

        let (idle, busy) = (begin(), begin());
        for _ in 0..23 {
            tokio::time::advance(IDLE / 2).await;
            assert!(sessions.find(&busy, &both).is_some());
        }
        assert_eq!(sessions.find(&idle, &both), None);
        tokio::time::advance(IDLE / 2).await;
        assert_eq!(sessions.find(&busy, &both), None);
    }

    #[test]
    fn their_number_is_bounded() {
        let (sessions, anna) = (Sessions::default(), token("anna", May::Act));
        let first = sessions.begin(&anna).unwrap();
        for _ in 0..MOST {
            sessions.begin(&anna).unwrap();
        }
        assert_eq!(lock(&sessions.0).len(), MOST);
        assert_eq!(sessions.find(&first, &guards(vec![anna])), None);
    }
}
