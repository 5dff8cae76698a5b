"""Webhooks: who wants to be told of what (endpoints), what is to be told (deliveries), and where one may connect to."""
