//! Who may use the admin API: whoever holds the token. docs/admin.md

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::super::Problem;

/// What a request must prove to know. Only its hash is kept.
pub struct AdminToken([u8; 32]);

impl AdminToken {
    /// From the 32 bytes of the token file; requests carry them as 64 lower-case digits.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hash(&Zeroizing::new(hex::encode(secret))))
    }

    /// Compares hashes, and those in constant time: neither length nor content of the token shows in the time taken.
    fn is(&self, presented: &str) -> bool {
        hash(presented).ct_eq(&self.0).into()
    }
}

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken(..)")
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Lets a request through that carries the token, and looks at nothing else of it.
pub(super) async fn require(State(token): State<Arc<AdminToken>>, request: Request, next: Next) -> Response {
    if bearer(request.headers()).is_some_and(|presented| token.is(presented)) {
        return next.run(request).await;
    }
    let detail = "a header \"Authorization: Bearer <token>\" with the service's admin token was expected";
    let mut refused = Problem::new(StatusCode::UNAUTHORIZED, None, detail).into_response();
    refused.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    refused
}

/// The token of exactly one header of this form.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presents(values: &[&'static str]) -> bool {
        let token = AdminToken::new(&[0xab; 32]);
        let mut headers = HeaderMap::new();
        values.iter().for_each(|value| {
            headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
        });
        bearer(&headers).is_some_and(|presented| token.is(presented))
    }

    #[test]
    fn only_the_token_itself_opens() {
        const TOKEN: &str = "Bearer abababababababababababababababababababababababababababababababab";
        assert!(presents(&[TOKEN]));
        assert!(presents(&["bearer abababababababababababababababababababababababababababababababab"]));
        assert!(!presents(&[]));
        assert!(!presents(&["Bearer"]));
        assert!(!presents(&["Bearer "]));
        assert!(!presents(&["Basic abababababababababababababababababababababababababababababababab"]));
        assert!(!presents(&["Bearer  abababababababababababababababababababababababababababababababab"]));
        assert!(!presents(&["Bearer ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB"]));
        assert!(!presents(&["Bearer ababababababababababababababababababababababababababababababab"]));
        assert!(!presents(&["Bearer bbababababababababababababababababababababababababababababababab"]));
        assert!(!presents(&[TOKEN, TOKEN]), "one header, not two");
    }
}
