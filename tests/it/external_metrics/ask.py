"""Asks over https: ask.py ADDRESS AUTHORITY CERTIFICATE|- METHOD PATH [HEADER: VALUE…]. Prints the status and the body."""

import http.client
import ssl
import sys

address, authority, certificate, method, path, *headers = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
if certificate != "-":
    context.load_cert_chain(certificate)
try:
    connection = http.client.HTTPSConnection(address, context=context, timeout=20)
    connection.request(method, path, headers=dict(header.split(": ", 1) for header in headers))
    answer = connection.getresponse()
    print(answer.status, answer.read().decode())
except OSError as error:
    print(0, type(error).__name__, error)
