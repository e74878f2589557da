"""What tools/fetch-parts is made of: the lock file, the resolvers, the downloader."""
