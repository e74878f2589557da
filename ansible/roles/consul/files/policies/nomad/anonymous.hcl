# Without a token: look and list. Changes and logs need one.
namespace "*" {
  policy = "read"
}
node {
  policy = "read"
}
agent {
  policy = "read"
}
