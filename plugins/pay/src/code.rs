//! CLN's codes of `pay`.

pub(crate) const IN_PROGRESS: i32 = 200;
pub(crate) const RHASH_ALREADY_USED: i32 = 201;
pub(crate) const UNPARSEABLE_ONION: i32 = 202;
pub(crate) const DESTINATION_PERM_FAIL: i32 = 203;
pub(crate) const TRY_OTHER_ROUTE: i32 = 204;
pub(crate) const ROUTE_NOT_FOUND: i32 = 205;
pub(crate) const ROUTE_TOO_EXPENSIVE: i32 = 206;
pub(crate) const INVOICE_EXPIRED: i32 = 207;
pub(crate) const UNSPECIFIED: i32 = 209;
pub(crate) const STOPPED_RETRYING: i32 = 210;
