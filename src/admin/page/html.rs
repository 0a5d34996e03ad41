//! A template as an answer.

use crate::admin::problem::Problem;
use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;

/// The page of a template.
pub(super) fn html(template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => Html(text).into_response(),
        // Writing into a text does not fail, and the templates call nothing that does.
        Err(_error) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "template", "the page could not be written").into_response()
        }
    }
}
