// The stock JavaScript client (npm install centrifuge): subscribe, publish, print what comes.
import { Centrifuge } from "centrifuge";

const client = new Centrifuge("ws://127.0.0.1:8080/connection/websocket");
const news = client.newSubscription("news");
news.on("publication", (context) => console.log(context.data));
news.on("subscribed", () => news.publish({ text: "hello from JavaScript" }));
news.subscribe();
client.connect();
