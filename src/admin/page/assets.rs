//! Style, script and icon of the page, from the binary. Their addresses change with their content, so browsers keep them.

use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

const STYLE: &str = include_str!("assets/page.css");
const SCRIPT: &str = include_str!("assets/page.js");
const ICON: &str = include_str!("assets/icon.svg");

/// Where the style is.
pub(super) fn style() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| address("page.css", STYLE));
    &PATH
}

/// Where the script is.
pub(super) fn script() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| address("page.js", SCRIPT));
    &PATH
}

fn address(name: &str, text: &str) -> String {
    let hash = HEXLOWER.encode(&Sha256::digest(text));
    format!("/static/{name}?{}", hash.get(..16).unwrap_or_default())
}

pub(super) async fn page_css() -> Response {
    file("text/css; charset=utf-8", STYLE)
}

pub(super) async fn page_js() -> Response {
    file("text/javascript; charset=utf-8", SCRIPT)
}

pub(super) async fn icon_svg() -> Response {
    file("image/svg+xml", ICON)
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=31536000, immutable")], text).into_response()
}
