//! JSON-RPC: bytes on the socket, requests with any parameters, for every method.

pub fn run(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    if mode % 2 == 0 {
        lightningd::fuzzing::socket(data);
        return;
    }
    // Most bytes are no request; here all that is JSON comes as parameters.
    let mut request = br#"{"jsonrpc":"2.0","id":1,"method":"x","params":"#.to_vec();
    request.extend_from_slice(data);
    request.push(b'}');
    lightningd::fuzzing::socket(&request);
}
