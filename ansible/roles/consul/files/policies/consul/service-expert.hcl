# An expert that spans several nodes finds its workers.
node_prefix "" {
  policy = "read"
}
service_prefix "llama" {
  policy = "read"
}
