//! The whole executable, from outside: processes, sockets, HTTP, SMTP.

mod support;

mod bad_input;
mod crash;
mod flush;
mod forged;
mod malformed;
mod restart;
