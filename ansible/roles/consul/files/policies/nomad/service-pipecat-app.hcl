# The assistant's page: jobs, allocations and their logs.
namespace "*" {
  capabilities = ["list-jobs", "read-job", "read-logs"]
}
node {
  policy = "read"
}
agent {
  policy = "read"
}
