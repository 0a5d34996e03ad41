//! What the admin listener is told: `[admin]`.

use base::secret::Secret;
use settings::{At, Flaw, Read, address_or_off, header_safe, secret, section};
use std::net::SocketAddr;

section! {
    /// The listener for those who run the service.
    pub struct Admin {
        /// Address of health and metrics, or "off". Port 0 picks a free one.
        pub address: Option<SocketAddr> = address_or_off().default("127.0.0.1:9090"),
        /// Bearer token. Required where the address can be reached from other machines.
        pub token: Option<Secret> = secret(header_safe).example("{ file = \"secrets/admin\" }").optional(),
    }
    check(at) {
        token_for_others(at, &address, &token);
    }
}

fn token_for_others(at: &mut At<'_, '_>, address: &Read<Option<SocketAddr>>, token: &Read<Option<Secret>>) {
    if let (Ok(Some(address)), Ok(None)) = (address, token)
        && !address.ip().is_loopback()
    {
        let reason = "can be reached from other machines, but there is no admin.token";
        at.flawed("address", Flaw::new(reason, "set admin.token, or listen on 127.0.0.1"));
    }
}
