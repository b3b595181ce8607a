//! Certificates of the control plane: who may talk to whom, and over what.
//!
//! Every component has a certificate of one authority per system. Its common name is its role
//! ([`Role`]), as in the DAOS 2.8 control plane; nothing else in the subject counts. Connections are
//! mutually authenticated TLS 1.3.
//!
//! * [`Authority`] makes the authority's and the components' certificates.
//! * [`Identity`] is what a component proves itself with: loaded from files whose modes, dates,
//!   authority, role and key are checked before anything is connected or listened to.
//! * [`server_config`] and [`client_config`] are the two ends of a connection; [`connect`] makes a gRPC channel of
//!   the client's.
//! * [`facts`] and [`survey`] say what certificate files hold, for people.

mod authority;
mod channel;
mod error;
mod facts;
mod identity;
mod reload;
mod role;
mod secret;
mod survey;
mod tls;

pub use authority::{Authority, Validity};
pub use channel::{connect, speaks_tls};
pub use error::{Kind, Problem, explain};
pub use facts::{Facts, facts};
pub use identity::{Files, Identity};
pub use reload::{Renewal, Renewing};
pub use role::Role;
pub use secret::create;
pub use survey::{Finding, Surveyed, survey};
pub use tls::{ALPN, client_config, role_of, server_config};
