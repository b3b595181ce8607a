//! Certificates of a system: the files that components are given, and what both ends of a connection say to each other.

mod files;
mod handshake;
mod site;
