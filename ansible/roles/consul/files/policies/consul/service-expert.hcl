# An expert registers itself when its model answers, finds the workers that it spans, and leaves the end of its log and what
# its bench measured.
node_prefix "" {
  policy = "read"
}
service_prefix "llama" {
  policy = "write"
}
service_prefix "expert-api-" {
  policy = "write"
}
service_prefix "rpc-" {
  policy = "write"
}
key_prefix "choir/logs/" {
  policy = "write"
}
key_prefix "choir/bench/" {
  policy = "write"
}
