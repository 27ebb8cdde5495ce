"""What a server tells of itself: labels of answers, facts of requests, metrics, a log line a request."""
