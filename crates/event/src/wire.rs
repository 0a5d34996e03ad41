//! The documented JSON of an event, field by field, borrowed from the body.
//!
//! Everything but the addressing members is optional and may be `null`; enums are open (plain text); ids may be strings
//! or integers; amounts keep their digits as text. Unknown members are skipped here and kept in the body.

use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

/// An id as the vendor writes it: a string, or an integer of any length, which is known by its digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Id<'a>(pub Cow<'a, str>);

impl<'a> Id<'a> {
    /// Reads an id from a JSON value without white space around it; `None` where that is neither a string nor an integer.
    #[must_use]
    pub fn of(raw: &'a str) -> Option<Self> {
        if let Some(text) = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            // Most ids have no escapes, and are not copied.
            let text =
                if text.contains('\\') { serde_json::from_str(raw).ok().map(Cow::Owned) } else { Some(text.into()) };
            return text.map(Self);
        }
        let digits = raw.strip_prefix('-').unwrap_or(raw);
        let is_integer = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_integer.then_some(Self(raw.into()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Id<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By its text: as a number, an integer of more than 64 bits would lose digits.
        let raw = <&'a RawValue>::deserialize(deserializer)?;
        Self::of(raw.get()).ok_or_else(|| de::Error::custom("expected a string or an integer"))
    }
}

/// An amount of money or a rate with the very digits it came with; never a binary float.
#[derive(Clone, Copy, Debug)]
pub struct Amount<'a>(&'a str);

impl<'a> Amount<'a> {
    /// The number's text: `1234.56`, `10000`, `-4`.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Amount<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw: &'a str = <&'a RawValue>::deserialize(deserializer)?.get();
        let digits = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(raw);
        let is_number = digits.bytes().any(|byte| byte.is_ascii_digit())
            && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'));
        if is_number { Ok(Self(digits)) } else { Err(de::Error::custom("expected an amount")) }
    }
}

/// A balance: a plain number (v2.1) or an object that holds amount and currency (v3).
#[derive(Clone, Copy, Debug)]
pub struct Balance<'a>(pub &'a RawValue);

impl<'de: 'a, 'a> Deserialize<'de> for Balance<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'a RawValue>::deserialize(deserializer)?;
        if raw.get().starts_with('{') || serde_json::from_str::<Amount<'_>>(raw.get()).is_ok() {
            Ok(Self(raw))
        } else {
            Err(de::Error::custom("expected an amount or an object with one"))
        }
    }
}

/// Text, borrowed where it has no escapes (a derived `Option<Cow>` would always copy).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// The body of a POST.
#[derive(Clone, Debug, Deserialize)]
pub struct Event<'a> {
    /// Unique id of the event, says the page; its two examples share one.
    #[serde(borrow)]
    pub id: Id<'a>,
    /// `UPDATED` is the only one implemented; the page's list spells it `UDPATED`.
    #[serde(borrow)]
    pub event_type: Cow<'a, str>,
    /// `CONNECTIONS` is the only one.
    #[serde(borrow)]
    pub resource_type: Cow<'a, str>,
    /// Seconds since the epoch; may lie years before the channels' dates.
    pub creation_date: Option<i64>,
    /// The channel whose synchronisation ended.
    #[serde(borrow)]
    pub channel_definition_id: Option<Id<'a>>,
    /// The connection.
    #[serde(borrow)]
    pub resource: Connection<'a>,
    /// The flag where the page's table has it.
    pub new_transactions: Option<bool>,
    /// The flag where the page's example has it; wins over the other.
    pub connection_updated: Option<ConnectionUpdated>,
}

/// `connection_updated`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct ConnectionUpdated {
    /// Whether the synchronisation brought new transactions.
    pub new_transactions: Option<bool>,
}

/// `resource`: a connection as `GET /connections` returns it, with two members more.
#[derive(Clone, Debug, Deserialize)]
pub struct Connection<'a> {
    /// Id of the connection.
    #[serde(borrow)]
    pub id: Id<'a>,
    /// The user it belongs to.
    #[serde(borrow)]
    pub user_id: Option<Id<'a>>,
    /// The bank.
    #[serde(borrow)]
    pub provider_id: Option<Id<'a>>,
    /// Name of the bank.
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    /// `RUNNING`, `SUCCESS`, `PARTIAL_SUCCESS`, `FAILED`, `CLOSED`, `NONE`, or a new one.
    #[serde(borrow)]
    pub status: Option<Text<'a>>,
    /// Seconds since the epoch.
    pub creation_date: Option<i64>,
    /// Whether the vendor synchronises by itself.
    pub auto_sync: Option<bool>,
    /// Logo of the bank.
    #[serde(borrow)]
    pub logo_url: Option<Text<'a>>,
    /// Ways to the bank.
    #[serde(borrow)]
    pub channels: Option<Vec<Channel<'a>>>,
    /// Holder of the connection.
    #[serde(borrow)]
    pub owner: Option<Owner<'a>>,
    /// Whether consent is given account by account.
    pub consent_per_account: Option<bool>,
    /// Number of accounts, right even where `accounts` is cut.
    pub account_count: Option<u64>,
    /// Every account, or none where there are too many.
    #[serde(borrow)]
    pub accounts: Option<Vec<Account<'a>>>,
}

/// One of `resource.channels`.
#[derive(Clone, Debug, Deserialize)]
pub struct Channel<'a> {
    /// Which channel.
    #[serde(borrow)]
    pub channel_definition_id: Id<'a>,
    /// `EMBEDDED`, `REDIRECT`, or a new one.
    #[serde(borrow)]
    pub mode: Option<Text<'a>>,
    /// Outcome of its last synchronisation.
    #[serde(borrow)]
    pub status: Option<Text<'a>>,
    /// End of consent, seconds since the epoch; `REDIRECT` only.
    pub expires: Option<i64>,
    /// Seconds since the epoch.
    pub last_success_date: Option<i64>,
    /// Seconds since the epoch.
    pub last_end_date: Option<i64>,
    /// What the user logs in with.
    #[serde(borrow)]
    pub credentials: Option<Vec<Credential<'a>>>,
    /// Types of account that the channel may bring.
    #[serde(borrow)]
    pub account_types: Option<Vec<Text<'a>>>,
    /// Whether the vendor has switched the channel off.
    pub channel_definition_unavailable: Option<bool>,
    /// Whether the channel could bring accounts; seen on `EMPTY` channels.
    pub eligible_accounts: Option<bool>,
}

/// One of a channel's `credentials`.
#[derive(Clone, Debug, Deserialize)]
pub struct Credential<'a> {
    /// Which field of the bank's form.
    #[serde(borrow)]
    pub id: Option<Id<'a>>,
    /// Its value, masked by the vendor.
    #[serde(borrow)]
    pub masked_value: Option<Text<'a>>,
}

/// `owner` of a connection or an account.
#[derive(Clone, Debug, Deserialize)]
pub struct Owner<'a> {
    /// A person's or a company's name.
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
}

/// One of `resource.accounts`, and of the pages of `GET /accounts`.
#[derive(Clone, Debug, Deserialize)]
pub struct Account<'a> {
    /// Id of the account.
    #[serde(borrow)]
    pub id: Id<'a>,
    /// The connection it belongs to.
    #[serde(borrow)]
    pub connection_id: Option<Id<'a>>,
    /// Label; missing in production at times.
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    /// ISO 4217; inside `balance` in v3.
    #[serde(borrow)]
    pub currency: Option<Text<'a>>,
    /// With its digits.
    #[serde(borrow)]
    pub balance: Option<Balance<'a>>,
    /// Seconds since the epoch (v2.1) or text (v3).
    #[serde(borrow)]
    pub balance_date: Option<&'a RawValue>,
    /// Not checked: the vendor's own examples fail the check digits.
    #[serde(borrow)]
    pub iban: Option<Text<'a>>,
    /// `ACTIVE`, `ERROR`, `CLOSED`, ..., in the vendor's example also `SUCCESS`.
    #[serde(borrow)]
    pub status: Option<Text<'a>>,
    /// `CHECKINGS`, `SAVINGS`, `LOAN`, `CREDIT_CARD`, or a new one.
    #[serde(borrow, rename = "type")]
    pub account_type: Option<Text<'a>>,
    /// Seconds since the epoch (v2.1) or text (v3).
    #[serde(borrow)]
    pub creation_date: Option<&'a RawValue>,
    /// The bank's own number.
    #[serde(borrow)]
    pub account_number: Option<Text<'a>>,
    /// Holder.
    #[serde(borrow)]
    pub owner: Option<Owner<'a>>,
    /// `PERSONAL` or `PROFESSIONAL`; not reliable.
    #[serde(borrow)]
    pub usage: Option<Text<'a>>,
    /// Details of a savings account.
    #[serde(borrow)]
    pub savings: Option<Savings<'a>>,
    /// Details of a loan.
    #[serde(borrow)]
    pub loan: Option<Loan<'a>>,
    /// The channel that last fed it.
    #[serde(borrow)]
    pub last_channel_definition_id: Option<Id<'a>>,
}

/// `savings` of an account.
#[derive(Clone, Debug, Deserialize)]
pub struct Savings<'a> {
    /// Product code, such as `LIVA`.
    #[serde(borrow, rename = "type")]
    pub product: Option<Text<'a>>,
    /// Family, such as `LIQUID`.
    #[serde(borrow)]
    pub savings_type: Option<Text<'a>>,
    /// Percent a year.
    #[serde(borrow)]
    pub yield_rate: Option<Amount<'a>>,
}

/// `loan` of an account.
#[derive(Clone, Debug, Deserialize)]
pub struct Loan<'a> {
    /// Amount lent.
    #[serde(borrow)]
    pub initial_balance: Option<Amount<'a>>,
    /// Percent a year.
    #[serde(borrow)]
    pub interest: Option<Amount<'a>>,
}

/// What a connection, as the API gives it, says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// `user_id`
    pub user: Option<String>,
    /// `status`
    pub status: Option<String>,
    /// `provider_id`
    pub provider: Option<String>,
}

/// What a connection says of itself, as far as each member can be read.
#[must_use]
pub fn known_of(connection: &[u8]) -> Known {
    #[derive(Deserialize)]
    struct Members<'a> {
        #[serde(borrow)]
        user_id: Option<&'a RawValue>,
        #[serde(borrow)]
        status: Option<&'a RawValue>,
        #[serde(borrow)]
        provider_id: Option<&'a RawValue>,
    }
    let id = |raw: &RawValue| serde_json::from_str::<Id<'_>>(raw.get()).ok().map(|id| id.0.into_owned());
    let text = |raw: &RawValue| serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|text| text.0.into_owned());
    let Ok(members) = serde_json::from_slice::<Members<'_>>(connection) else { return Known::default() };
    Known {
        user: members.user_id.and_then(id),
        status: members.status.and_then(text),
        provider: members.provider_id.and_then(id),
    }
}

/// The JSON path of the member that could not be typed; parses a second time, so for failures only.
pub(super) fn path_of_failure(text: &str, error: &serde_json::Error) -> String {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, Event<'_>>(&mut deserializer) {
        Err(located) => {
            let path = located.path().to_string();
            let mut shown: String = if path == "." { "$".to_owned() } else { format!("$.{path}") };
            if shown.len() > 200 {
                shown = shown.chars().take(200).collect();
            }
            shown
        }
        Ok(_) => format!("line {} column {}", error.line(), error.column()),
    }
}
