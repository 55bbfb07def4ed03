"""Asks for each URL with the standard library."""

import sys
import urllib.error
import urllib.request

for url in sys.argv[1:]:
    print("==", url)
    try:
        answer = urllib.request.urlopen(url)
    except urllib.error.HTTPError as error:
        answer = error
    except OSError as error:
        print(error)
        continue
    print(answer.read().decode())
