//! What callers that waited are answered.

use primitives::BlockHeight;
use serde_json::{Value, json};

/// `waitblockheight`.
pub fn height(height: BlockHeight) -> Value {
    json!({"blockheight": height.0})
}
