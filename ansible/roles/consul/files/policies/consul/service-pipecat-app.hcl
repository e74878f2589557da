# The assistant: finds experts and where it runs itself.
node_prefix "" {
  policy = "read"
}
service_prefix "" {
  policy = "read"
}
key_prefix "config/" {
  policy = "read"
}
# The end of its log, for `choir logs`.
key_prefix "choir/logs/" {
  policy = "write"
}
