"""`embedmill serve` beside other servers, and beside what it is made of."""
