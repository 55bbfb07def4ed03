// Asks for each URL with Java's own TLS and HTTP/2.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

class Client {
    public static void main(String[] urls) throws InterruptedException {
        HttpClient client = HttpClient.newHttpClient();
        for (String url : urls) {
            System.out.println("== " + url);
            try {
                System.out.println(client.send(HttpRequest.newBuilder(URI.create(url)).build(), BodyHandlers.ofString()).body());
            } catch (java.io.IOException error) {
                System.out.println(error);
            }
        }
    }
}
